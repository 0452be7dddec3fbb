"""`prepare`, `synthesize`, `shard`, `preview`: what they write, resume, refuse and never touch."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from typer.testing import CliRunner, Result

from unblur.blur import FrameAverage, blur_photo, convolve, parse_degradation, spoil
from unblur.cli import app
from unblur.data import (
    Augmentation,
    DataError,
    Positions,
    Samples,
    averaged,
    check_dataset,
    make_split,
    open_dataset,
    read_split,
    synthesize,
    write_shards,
)
from unblur.data.manifest import read_rows
from unblur.data.prepare import prepare
from unblur.data.randomness import generator

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def photos(tmp_path: Path, scene: np.ndarray) -> Path:
    """Three photos, one of them grey and one JPEG."""
    root = tmp_path / "photos"
    (root / "trip").mkdir(parents=True)
    Image.fromarray(scene[:90, :120]).save(root / "a.png")
    Image.fromarray(scene[200:290, 100:260]).save(root / "trip" / "b.jpg", quality=95)
    Image.fromarray(scene[300:380, :100, 0]).save(root / "trip" / "c.png")
    return root


@pytest.fixture
def sequences(tmp_path: Path, scene: np.ndarray) -> Path:
    """Three sequences of five frames, in REDS' layout."""
    for sequence in range(3):
        folder = tmp_path / "reds" / "train" / "train_sharp" / f"{sequence:03}"
        folder.mkdir(parents=True)
        for frame in range(5):
            left = 20 * frame
            part = scene[100 * sequence : 100 * sequence + 80, left : left + 120]
            Image.fromarray(part).save(folder / f"{frame:08}.png")
    return tmp_path / "reds"


def test_prepare_picks_and_resizes(data: Path, tmp_path: Path) -> None:
    source = tree(data / "reds")
    result = unblur("data", "prepare", data / "reds", "-o", tmp_path / "d",
                    "--frames", "1,3", "--size", "72x128")  # fmt: skip
    assert result.exit_code == 0, result.output
    made, original = open_dataset(tmp_path / "d"), open_dataset(data / "reds")
    assert made.layout == "prepared"
    assert made.sequences == original.sequences
    assert len(made.pairs) == 4
    assert {pair.sharp.size() for pair in made.pairs} == {(128, 72)}
    first = made.pairs[0]
    assert first.name == original.pairs[0].name
    assert first.blurred is not None
    expected = Image.fromarray(original.pairs[0].sharp.load()).resize(
        (128, 72), Image.Resampling.BICUBIC
    )
    assert np.array_equal(first.sharp.load(), np.asarray(expected))
    assert not check_dataset(made).problems
    assert open_dataset(f"flat:{tmp_path / 'd'}").pairs  # other programs find their way, too
    assert tree(data / "reds") == source


def test_prepare_copies_what_it_does_not_change(photos: Path, tmp_path: Path) -> None:
    assert unblur("data", "prepare", photos, "-o", tmp_path / "d").exit_code == 0
    assert (tmp_path / "d/sharp/trip/b.jpg").read_bytes() == (photos / "trip/b.jpg").read_bytes()
    assert (
        unblur("data", "prepare", photos, "-o", tmp_path / "p", "--patches", "3x4").exit_code == 0
    )
    assert len(open_dataset(tmp_path / "p").pairs) == 36


def test_synthesize_pairs_with_a_manifest(photos: Path, tmp_path: Path) -> None:
    source = tree(photos)
    target = tmp_path / "pairs"
    command = (
        "data",
        "synthesize",
        photos,
        "-o",
        target,
        "--blur",
        "shake:extent=5..9",
        "--count",
        5,
    )
    result = unblur(*command)
    assert result.exit_code == 0, result.output
    made = open_dataset(target)
    assert [pair.name for pair in made.pairs] == [
        "a/001", "a/002", "trip/b/001", "trip/b/002", "trip/c/001",
    ]  # fmt: skip
    assert made.sequences == ["a", "trip/b", "trip/c"]  # variants of a photo stay together
    rows = {row.name: row for row in read_rows(target)}
    record = rows["a/001"].blur[0]
    assert record["step"] == "shake"
    assert 5 <= record["extent"] <= 9
    # The kernel that the manifest names explains the blurred image.
    kernel = np.load(target / str(rows["a/001"].kernel))
    pair = made.pairs[0]
    assert pair.blurred is not None
    again = convolve(pair.sharp.load().astype(np.float32) / 255, kernel)
    assert np.abs(again * 255 - pair.blurred.load()).max() <= 0.51
    assert rows["a/001"].blur != rows["a/002"].blur
    # Called again: nothing to do, nothing changed. With another seed: refused.
    before = tree(target)
    assert unblur(*command).exit_code == 0
    assert tree(target) == before
    refused = unblur(*command, "--seed", 7)
    assert refused.exit_code == 1
    assert "other settings (seed 42, not 7)" in refused.output
    assert tree(target) == before
    assert tree(photos) == source


def test_what_is_drawn_depends_on_the_name_alone(photos: Path, tmp_path: Path) -> None:
    degradation = parse_degradation("photo")
    synthesize(open_dataset(photos), degradation, tmp_path / "all", seed=3)
    (photos / "a.png").unlink()
    synthesize(open_dataset(photos), degradation, tmp_path / "fewer", seed=3, workers=1)
    for name in ("trip/b.png", "trip/c.png"):
        both = [(tmp_path / part / "blur" / name).read_bytes() for part in ("all", "fewer")]
        assert both[0] == both[1]
    drawn = degradation.draw(generator(3, "trip/c", 0))
    pair = open_dataset(tmp_path / "all").pairs[2]
    assert pair.blurred is not None
    assert np.array_equal(spoil(drawn, pair.sharp.load()), pair.blurred.load())


def test_synthesize_averages_frames(data: Path, tmp_path: Path) -> None:
    result = unblur("data", "synthesize", data / "gopro_240fps", "-o", tmp_path / "d",
                    "--blur", "gopro-frames-gamma", "--seed", 1)  # fmt: skip
    assert result.exit_code == 0, result.output
    made = open_dataset(tmp_path / "d")
    assert made.pairs
    assert made.pairs[0].sequence == "GOPR0477_11_00"
    with pytest.raises(DataError, match="enough consecutive frames"):
        synthesize(
            open_dataset(data / "sharp/photos"), parse_degradation("gopro-frames"), tmp_path / "x"
        )


def test_only_blurred_copies(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "copies"
    result = unblur(
        "data", "synthesize", photos, "-o", target, "--blur", "gaussian3", "--only-blurred"
    )
    assert result.exit_code == 0, result.output
    assert not (target / "sharp").exists()
    assert len(list((target / "blur").rglob("*.png"))) == 3
    with pytest.raises(DataError, match="blurred copies only"):
        open_dataset(target)


@pytest.mark.parametrize("what", ["synthesize", "shard"])
def test_killed_and_called_again(what: str, tmp_path: Path, scene: np.ndarray) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for index in range(40):
        Image.fromarray(np.roll(scene[:300, :400], index, axis=1)).save(source / f"{index:02}.png")
    extra = ["--blur", "photo"] if what == "synthesize" else ["--per-shard", "4"]

    def command(target: Path) -> list[str]:
        return [*UNBLUR, "data", what, str(source), "-o", str(target), *extra, "--workers", "1"]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    target = tmp_path / "killed"
    process = subprocess.Popen(command(target), stdout=subprocess.DEVNULL)
    partial = target / "manifest.partial.jsonl"
    while process.poll() is None and not (partial.is_file() and partial.stat().st_size > 2000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (target / "manifest.jsonl").exists()
    with pytest.raises(DataError, match="not finished"):
        open_dataset(target)
    finished = {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.suffix in (".png", ".tar")}
    subprocess.run(command(target), check=True, capture_output=True)
    assert {k: v for k, v in tree(target).items() if not k.endswith(".partial")} == tree(
        tmp_path / "whole"
    )
    kept = [p for p, when in finished.items() if p.exists() and p.stat().st_mtime_ns == when]
    assert kept, "what was finished is not made again"


def test_shards_by_split_read_by_workers_and_ranks(sequences: Path, tmp_path: Path) -> None:
    dataset = open_dataset(sequences)
    assert (
        unblur("data", "split", sequences, "-o", tmp_path / "s.json", "--ratio", 0.7).exit_code == 0
    )
    result = unblur("data", "shard", sequences, "-o", tmp_path / "shards",
                    "--split", tmp_path / "s.json", "--per-shard", 4)  # fmt: skip
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "shards").glob("*.tar"))
    assert names == ["train-000000.tar", "train-000001.tar", "train-000002.tar",
                     "val-000000.tar", "val-000001.tar"]  # fmt: skip
    shards = open_dataset(tmp_path / "shards")
    assert {pair.name for pair in shards.pairs} == {pair.name for pair in dataset.pairs}
    by_name = {pair.name: pair for pair in dataset.pairs}
    for pair in shards.pairs:
        assert np.array_equal(pair.sharp.load(), by_name[pair.name].sharp.load())
    # The split's parts are the shards' subsets, and the authors' own from then on.
    split = read_split(tmp_path / "s.json")
    again = make_split(shards, "original")
    assert (again.train, again.val) == (split.train, split.val)
    train = split.part(shards, "train")
    samples = Samples(train, parse_degradation("photo"), crop=48, augmentation=Augmentation())
    direct = Samples(
        split.part(dataset, "train"), samples.degradation, crop=48, augmentation=Augmentation()
    )
    seen: list[str] = []
    for rank in range(2):
        loader = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=1,
            sampler=Positions(len(samples), 0, rank=rank, ranks=2),
            num_workers=2,
        )
        for batch, position in zip(
            loader, Positions(len(samples), 0, rank=rank, ranks=2), strict=True
        ):
            seen += batch["name"]
            assert torch.equal(batch["blurred"][0], torch.from_numpy(direct[position]["blurred"]))
    assert len(seen) == len(set(seen)) == len(train)


def test_webdataset_reads_the_shards(sequences: Path, tmp_path: Path) -> None:
    import webdataset

    write_shards(open_dataset(sequences), tmp_path / "shards", per_shard=4)
    urls = [str(path) for path in sorted((tmp_path / "shards").glob("*.tar"))]
    loaded = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(loaded) == 15
    by_name = {pair.name: pair for pair in open_dataset(sequences).pairs}
    for sample in loaded:
        assert np.array_equal(sample["sharp.png"], by_name[sample["json"]["name"]].sharp.load())
    with tarfile.open(urls[0]) as tar:
        assert all(member.mtime == 0 and member.uid == 0 for member in tar.getmembers())


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """A file server that sends parts of files, as object stores do."""

    whole_files = False

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or self.whole_files or not path.is_file():
            return super().do_GET()
        first, last = int(wanted[1]), int(wanted[2])
        content = path.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(RangeHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_shards_by_url(
    sequences: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(open_dataset(sequences), tmp_path / "shards", per_shard=4)
    remote = open_dataset(f"prepared:{server}/shards")
    local = open_dataset(tmp_path / "shards")
    assert [pair.name for pair in remote.pairs] == [pair.name for pair in local.pairs]
    for far, near in zip(remote.pairs, local.pairs, strict=True):
        assert np.array_equal(far.sharp.load(), near.sharp.load())
    samples = Samples(remote.pairs, parse_degradation("cifar"), crop=48)
    loader = DataLoader(samples, batch_size=5, num_workers=2)  # type: ignore[arg-type]
    assert sum(len(batch["name"]) for batch in loader) == 15
    with pytest.raises(DataError, match="answers 404"):
        open_dataset(f"prepared:{server}/nothing")
    with pytest.raises(DataError, match="by URL"):
        open_dataset(f"gopro:{server}/shards")
    shard = next((tmp_path / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:3000])
    cut = [pair for pair in remote.pairs if shard.name in pair.sharp.label][-1]
    with pytest.raises(DataError, match="truncated"):
        cut.sharp.load()
    monkeypatch.setattr(RangeHandler, "whole_files", True)
    with pytest.raises(DataError, match="sends no parts"):
        remote.pairs[0].sharp.load()


def test_damaged_shards(sequences: Path, tmp_path: Path) -> None:
    write_shards(open_dataset(sequences), tmp_path / "shards", per_shard=8)
    shard = tmp_path / "shards" / "all-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    result = unblur("data", "check", tmp_path / "shards")
    assert result.exit_code == 1
    assert "all-000001.tar: is truncated" in result.output
    changed = bytearray(whole)
    changed[2000] ^= 0xFF
    shard.write_bytes(bytes(changed))
    result = unblur("data", "check", tmp_path / "shards")
    assert "is damaged or was changed" in result.output
    shard.unlink()
    result = unblur(
        "data", "synthesize", tmp_path / "shards", "-o", tmp_path / "x", "--blur", "cifar"
    )
    assert result.exit_code == 1
    assert "is missing" in result.output
    assert not (tmp_path / "x").exists()


def test_hostile_manifests(tmp_path: Path, photos: Path) -> None:
    synthesize(open_dataset(photos), parse_degradation("cifar"), tmp_path / "d")
    path = tmp_path / "d" / "manifest.jsonl"
    header, row, *_ = path.read_text().splitlines()
    header = header.replace('"rows": 3', '"rows": 1')
    for change, message in (
        ({"file": "../../etc/passwd"}, "lies outside"),
        ({"file": "/etc/passwd"}, "lies outside"),
        ({"offset": -4}, "negative"),
        ("../../escaped", "lies outside"),
        ({"oops": 1}, "damaged"),
        ({}, None),
    ):
        values = json.loads(row)
        if isinstance(change, str):
            values["name"] = change
        else:
            values["sharp"] |= change
        path.write_text(f"{header}\n{json.dumps(values)}\n")
        if message is None:
            assert len(open_dataset(tmp_path / "d").pairs) == 1
        else:
            with pytest.raises(DataError, match=message):
                open_dataset(tmp_path / "d")
    path.write_text(f"{header}\n")
    with pytest.raises(DataError, match="0 of 1 rows"):
        open_dataset(tmp_path / "d")
    path.write_text("{}")
    with pytest.raises(DataError, match="no manifest of unblur"):
        open_dataset(tmp_path / "d")


def test_where_it_may_not_write(photos: Path, tmp_path: Path) -> None:
    inside = unblur("data", "synthesize", photos, "-o", photos / "new", "--blur", "cifar")
    assert inside.exit_code == 1
    assert "inside the data set" in inside.output
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    taken = unblur("data", "prepare", photos, "-o", tmp_path / "full")
    assert taken.exit_code == 1
    assert "is not empty" in taken.output
    assert tree(tmp_path / "full").keys() == {"thesis.txt"}
    assert (
        unblur("data", "synthesize", photos, "-o", tmp_path / "y", "--blur", "nope").exit_code == 1
    )
    assert not (tmp_path / "y").exists()
    for option in ("--size=big", "--size=0x4", "--patches=3", "--frames=a"):
        assert unblur("data", "prepare", photos, "-o", tmp_path / "z", option).exit_code == 2


def test_a_full_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        result = unblur("data", "synthesize", photos, "-o", tmp_path / "d", "--blur", "cifar")
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert tree(tmp_path / "d").keys() == {"unblur.json"}
    # Once there is room it goes on.
    result = unblur("data", "synthesize", photos, "-o", tmp_path / "d", "--blur", "cifar")
    assert result.exit_code == 0
    assert len(open_dataset(tmp_path / "d").pairs) == 3


def test_preview(data: Path, photos: Path, tmp_path: Path) -> None:
    for arguments in (
        (photos, "--blur", "photo", "--count", 4),
        (photos, "--blur", "gopro-like"),
        (data / "gopro", "--count", 3),
        (data / "gopro_240fps", "--blur", "frames:window=5"),
        (data / "cifar-10-batches-py", "--blur", "cifar", "--crop", 32),
    ):
        result = unblur("data", "preview", *arguments, "-o", tmp_path / "s.png", "--overwrite")
        assert result.exit_code == 0, result.output
        assert np.asarray(Image.open(tmp_path / "s.png")).std() > 20
    assert (
        unblur("data", "preview", photos, "--blur", "photo", "-o", tmp_path / "s.png").exit_code
        == 2
    )
    inside = unblur("data", "preview", photos, "--blur", "photo", "-o", photos / "sheet.png")
    assert inside.exit_code != 0
    assert "lies inside the data set" in inside.output
    assert not (photos / "sheet.png").exists()
    bare = unblur("data", "preview", photos, "-o", tmp_path / "t.png")
    assert "choose one with --blur" in bare.output
    assert unblur("data", "blurs").output.count("gaussian") >= 2


def test_mixtures(photos: Path, sequences: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(
        f"- {{data: 'sharp:{photos}', weight: 3}}\n"
        f"- {{data: '{sequences}'}}\n"
        f"- {{data: 'gopro:{data / 'gopro'}', blurred: false, weight: 2}}\n"
        f"- {{data: '{data / 'gopro_240fps'}', frames: {{window: 5}}, weight: 4}}\n"
    )
    mixed = open_dataset(path)
    assert mixed.layout == "mix"
    assert len(mixed.pairs) == 3 + 15 + 11 + 2
    assert {(p.name[0], p.weight) for p in mixed.pairs} == {("1", 3), ("2", 1), ("3", 2), ("4", 4)}
    assert sum(pair.blurred is not None for pair in mixed.pairs) == 2
    # The same video in two parts is one sequence, so a split cannot cut through it.
    both = [p for p in mixed.pairs if p.sequence == "GOPR0477_11_00"]
    assert {p.name[0] for p in both} == {"3", "4"}
    samples = Samples(mixed.pairs, parse_degradation("photo"), crop=64, augmentation=Augmentation())
    names = [samples._choose(0, i, generator(1, i)).name[0] for i in range(500)]
    assert 160 < names.count("4") < 240
    fewer = [pair for pair in mixed.pairs if pair.part != "2/"][::2]  # as after a split
    again = Samples(fewer, samples.degradation, crop=64, augmentation=Augmentation())
    names = [again._choose(0, i, generator(1, i)).name[0] for i in range(500)]
    assert 180 < names.count("4") < 265
    path.write_text(f"- {{data: 'gopro:{data / 'gopro'}', sequences: [GOPR0384_11_02]}}")
    assert set(open_dataset(path).sequences) == {"GOPR0384_11_02"}
    for content, message in (
        (f"- {{data: 'gopro:{data / 'gopro'}', sequences: [GOPR0]}}", "GOPR0374_11_00"),
        (f"- {{data: '{photos}', sequences: all}}", "list of names"),
        ("- {data: gopro:/nowhere}", "no such file"),
        ("- {weight: 3}", "needs data"),
        (f"- {{data: '{photos}', weight: -1}}", "positive number"),
        (f"- {{data: '{photos}', wait: 1}}", "unknown key 'wait'"),
        ("hello", "must list data sets"),
        (f"- {{data: '{photos}', frames: {{window: 4}}}}", "odd"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            open_dataset(path)


def test_blur_photo_is_what_linear_light_does(scene: np.ndarray) -> None:
    drawn = parse_degradation("camera-shake").draw(np.random.default_rng(0))
    photo = (scene[:100, :100] / 255).astype(np.float32)
    noise = np.abs(drawn(photo) - blur_photo(photo, drawn.kernels[0])).mean()
    assert 0 < noise < 0.02


def test_a_changed_data_set_or_blur_is_noticed(
    photos: Path, tmp_path: Path, scene: np.ndarray
) -> None:
    blur = tmp_path / "b.yaml"
    blur.write_text("- gaussian: {sigma: 1}")
    command = ("data", "synthesize", photos, "-o", tmp_path / "d", "--blur", blur)
    assert unblur(*command).exit_code == 0
    blur.write_text("- gaussian: {sigma: 2}")
    result = unblur(*command)
    assert result.exit_code == 1
    assert "other settings" in result.output
    blur.write_text("- gaussian: {sigma: 1}")
    Image.fromarray(scene[:50, :50]).save(photos / "new.png")
    result = unblur(*command)
    assert result.exit_code == 1
    assert "has changed" in result.output
    target = ("data", "shard", photos, "-o", tmp_path / "s", "--per-shard", 2)
    assert unblur(*target).exit_code == 0
    (tmp_path / "s" / "all-000001.tar").unlink()
    result = unblur(*target)
    assert result.exit_code == 1
    assert "is missing" in result.output


def test_what_fails_leaves_nothing_in_the_way(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "d"
    wrong = unblur("data", "synthesize", photos, "-o", target, "--blur", "gopro-frames")
    assert wrong.exit_code == 1
    assert unblur("data", "synthesize", photos, "-o", target, "--blur", "cifar").exit_code == 0
    mix = tmp_path / "mix.yaml"
    mix.write_text(f"- {{data: '{photos}'}}")
    inside = unblur("data", "prepare", mix, "-o", photos / "sub")
    assert "inside the data set" in inside.output
    (photos / "trip" / "b.jpg").write_bytes(b"broken")
    assert unblur("data", "prepare", photos, "-o", tmp_path / "p").exit_code == 1
    unfinished = unblur("data", "check", tmp_path / "p")
    assert unfinished.exit_code == 1
    assert "not finished" in unfinished.output


def test_prepared_files_stay_what_they_were(photos: Path, tmp_path: Path) -> None:
    write_shards(open_dataset(photos), tmp_path / "s")
    assert unblur("data", "prepare", tmp_path / "s", "-o", tmp_path / "p").exit_code == 0
    assert (tmp_path / "p/sharp/trip/b.jpg").read_bytes() == (photos / "trip/b.jpg").read_bytes()


@pytest.mark.parametrize("name", ["a b#c%20?.png", "ünï.png", "x\\y.png", "line\nbreak.png"])
def test_odd_names(name: str, tmp_path: Path, scene: np.ndarray, server: str) -> None:
    (tmp_path / "odd").mkdir()
    Image.fromarray(scene[:40, :40]).save(tmp_path / "odd" / name)
    synthesize(open_dataset(tmp_path / "odd"), parse_degradation("cifar"), tmp_path / "d")
    assert not check_dataset(open_dataset(tmp_path / "d")).problems
    (pair,) = open_dataset(f"{server}/d").pairs
    assert np.array_equal(pair.sharp.load(), scene[:40, :40])


def test_frames_are_averaged_in_order_and_without_gaps(tmp_path: Path, scene: np.ndarray) -> None:
    folder = tmp_path / "f" / "blur" / "seq"
    for number in (1, 2, 3, 4, 5, 9, 10, 11, 30, 31):
        for side in ("blur", "sharp"):
            path = tmp_path / "f" / side / "seq" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene[:20, number : number + 20]).save(path)
    assert folder.is_dir()
    pairs = averaged(open_dataset(tmp_path / "f"), FrameAverage(3)).pairs
    windows = sorted(
        [int(Path(frame.label).stem) for frame in pair.blurred.frames]  # type: ignore[union-attr]
        for pair in pairs
    )
    assert windows == [[1, 2, 3], [9, 10, 11]]
    rows = synthesize(
        open_dataset(tmp_path / "f"), parse_degradation("frames:window=3"), tmp_path / "d"
    )
    assert rows == 2
    assert read_rows(tmp_path / "d")[0].blur[0]["window"] == 3


def test_what_blurred_a_pair_is_handed_on(photos: Path, tmp_path: Path) -> None:
    sharp = open_dataset(f"sharp:{photos}")
    synthesize(sharp, parse_degradation("gaussian:size=5,sigma=1"), tmp_path / "blurred")
    blurred = open_dataset(tmp_path / "blurred")
    write_shards(blurred, tmp_path / "shards")
    prepare(blurred, tmp_path / "copied", {})
    for folder in ("shards", "copied"):
        for pair, given in zip(open_dataset(tmp_path / folder).pairs, blurred.pairs, strict=True):
            assert pair.blur == given.blur != ()
            assert np.array_equal(np.load(str(pair.kernel)), np.load(str(given.kernel)))
