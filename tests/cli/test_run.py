"""`unblur run` as people use it: files, folders, mixes, mistakes, interruptions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner, Result

from tests.conftest import heed_interrupts
from unblur.cli import app
from unblur.imaging import Photo, read_photo, write_photo
from unblur.inference import batch

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def album(tmp_path: Path, scene: np.ndarray) -> Path:
    """A folder with photos in two levels, a text file, a hidden file and a broken photo."""
    root = tmp_path / "album"
    (root / "day 1" / "beach").mkdir(parents=True)
    write_photo(Photo(scene[:60, :80]), root / "a.png")
    write_photo(Photo(scene[60:120, :80]), root / "day 1" / "b.JPG")
    write_photo(Photo(scene[:60, 80:160]), root / "day 1" / "beach" / "c.webp")
    (root / "day 1" / "broken.jpg").write_bytes((root / "day 1" / "b.JPG").read_bytes()[:500])
    (root / "notes.txt").write_text("hello")
    (root / ".hidden.png").write_bytes(b"x")
    return root


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_terminal_shows_a_bar_and_what_became_of_each_photo(album: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    shown, terminal = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    command = [*UNBLUR, "run", album / "a.png", album / "day 1" / "b.JPG", "-o", tmp_path / "out"]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        text = b"".join(iter(lambda: _read(shown), b"")).decode()
    os.close(shown)
    assert process.returncode == 0, text
    for name in ("a.png", "b.JPG"):
        assert re.search(rf"{name} \([0-9.]+ s, [a-z ]*(sharper|changed)", text), text
    assert "0.0/0.0 MP" in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # what Linux says at its end
        return b""


def test_one_photo_goes_beside_itself(tmp_path: Path, scene: np.ndarray) -> None:
    path = tmp_path / "holiday.png"
    write_photo(Photo(scene[:100, :120]), path)
    before = digest(path)
    result = unblur("run", path)
    assert result.exit_code == 0, result.output
    sharp = read_photo(tmp_path / "holiday_sharp.png")
    assert sharp.pixels.shape == (100, 120, 3)
    assert digest(path) == before
    assert tree(tmp_path) == ["holiday.png", "holiday_sharp.png"]


def test_a_named_output_and_its_folder(tmp_path: Path, scene: np.ndarray) -> None:
    path = tmp_path / "in.png"
    write_photo(Photo(scene[:40, :50]), path)
    assert unblur("run", path, "-o", tmp_path / "new" / "out.jpg").exit_code == 0
    assert Image.open(tmp_path / "new" / "out.jpg").format == "JPEG"
    assert unblur("run", path, "-o", f"{tmp_path / 'folder'}{os.sep}").exit_code == 0
    assert tree(tmp_path / "folder") == ["in.png"]


def test_a_folder_is_mirrored_and_bad_files_are_reported(album: Path) -> None:
    before = {p: digest(p) for p in album.rglob("*") if p.is_file()}
    result = unblur("run", album)
    assert result.exit_code == 1
    assert "broken.jpg" in result.stderr
    assert "damaged" in result.stderr
    assert "3 restored, 1 failed" in result.stderr
    assert "notes.txt" in result.stderr
    assert tree(album.with_name("album_sharp")) == ["a.png", "day 1/b.JPG", "day 1/beach/c.webp"]
    assert {p: digest(p) for p in album.rglob("*") if p.is_file()} == before


def test_not_recursive(album: Path, tmp_path: Path) -> None:
    assert unblur("run", album, "-o", tmp_path / "out", "--no-recursive").exit_code == 0
    assert tree(tmp_path / "out") == ["a.png"]


def test_files_and_folders_mixed_into_one_folder(
    album: Path, tmp_path: Path, scene: np.ndarray
) -> None:
    (album / "day 1" / "broken.jpg").unlink()
    write_photo(Photo(scene[:30, :30]), tmp_path / "single.png")
    other = tmp_path / "other"
    shutil.copytree(album / "day 1", other)
    out = tmp_path / "out"
    assert unblur("run", tmp_path / "single.png", album, other, "-o", out).exit_code == 0
    assert tree(out) == [
        "album/a.png",
        "album/day 1/b.JPG",
        "album/day 1/beach/c.webp",
        "other/b.JPG",
        "other/beach/c.webp",
        "single.png",
    ]


def test_an_output_folder_inside_the_input_is_not_fed_to_itself(album: Path) -> None:
    (album / "day 1" / "broken.jpg").unlink()
    for _ in range(2):
        assert unblur("run", album, "-o", album / "sharp", "--overwrite").exit_code == 0
    assert tree(album / "sharp") == ["a.png", "day 1/b.JPG", "day 1/beach/c.webp"]


def test_results_of_several_folders_are_not_fed_to_one_of_them(
    album: Path, tmp_path: Path, scene: np.ndarray
) -> None:
    (album / "day 1" / "broken.jpg").unlink()
    other = tmp_path / "other"
    other.mkdir()
    write_photo(Photo(scene[:40, :50]), other / "x.png")
    for _ in range(2):
        made = unblur("run", album, other, "-o", album / "sharp", "--overwrite")
        assert made.exit_code == 0, made.output
    names = ["album/a.png", "album/day 1/b.JPG", "album/day 1/beach/c.webp", "other/x.png"]
    assert tree(album / "sharp") == names
    shutil.rmtree(album / "sharp")
    for _ in range(2):
        assert unblur("run", album, other, "-o", other, "--overwrite").exit_code == 0
    assert tree(other) == sorted(["x.png", *names])


def test_existing_results(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (album / "day 1" / "broken.jpg").unlink()
    assert unblur("run", album, "-o", out).exit_code == 0
    (out / "a.png").write_bytes(b"mine")
    refused = unblur("run", album, "-o", out)
    assert refused.exit_code == 1
    assert "exists already" in refused.stderr
    assert (out / "a.png").read_bytes() == b"mine"
    (out / "day 1" / "b.JPG").unlink()
    resumed = unblur("run", album, "-o", out, "--skip-existing", "--json")
    assert resumed.exit_code == 0
    statuses = [file["status"] for file in json.loads(resumed.stdout)["files"]]
    assert sorted(statuses) == ["ok", "skipped", "skipped"]
    assert (out / "a.png").read_bytes() == b"mine"
    assert unblur("run", album, "-o", out, "--overwrite").exit_code == 0
    assert read_photo(out / "a.png").width == 80
    assert unblur("run", album, "--overwrite", "--skip-existing").exit_code == 2


def test_json_summary(album: Path, tmp_path: Path) -> None:
    result = unblur("run", album, "-o", tmp_path / "out", "--json", "--compare")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["model"] == "small"
    files = {Path(file["input"]).name: file for file in summary["files"]}
    good = files["a.png"]
    assert (good["width"], good["height"], good["status"]) == (80, 60, "ok")
    assert good["output"] == str(tmp_path / "out" / "a.png")
    assert Path(good["comparison"]).is_file()
    assert good["seconds"] > 0
    assert good["model"] == "small"
    assert good["error"] is None
    bad = files["broken.jpg"]
    assert (bad["status"], bad["output"]) == ("failed", None)
    assert "damaged" in bad["error"]


def test_format_and_quality(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene), tmp_path / "a.png")
    assert unblur("run", tmp_path / "a.png", "--format", "jpg", "--quality", 40).exit_code == 0
    small = (tmp_path / "a_sharp.jpg").stat().st_size
    args = ("run", tmp_path / "a.png", "--format", "JPEG", "--quality", 95, "--overwrite")
    assert unblur(*args).exit_code == 0
    assert (tmp_path / "a_sharp.jpg").stat().st_size > 2 * small


def test_two_inputs_for_one_result(tmp_path: Path, scene: np.ndarray) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_photo(Photo(scene[:30, :30]), folder / "a.png")
    write_photo(Photo(scene[:30, :30]), folder / "a.jpg")
    for option in ("--overwrite", "--skip-existing"):
        out = tmp_path / f"out{option}"
        result = unblur("run", folder, "-o", out, "--format", "png", option)
        assert result.exit_code == 1
        assert "1 restored, 1 failed" in result.stderr
    assert "is already that of" in result.stderr


def test_strength_zero_returns_the_photo(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:50, :50]), tmp_path / "a.png")
    assert unblur("run", tmp_path / "a.png", "--strength", 0).exit_code == 0
    assert np.array_equal(read_photo(tmp_path / "a_sharp.png").pixels, scene[:50, :50])


def test_sixteen_bit_alpha_and_metadata_through_the_command(
    tmp_path: Path, scene: np.ndarray
) -> None:
    blurred = Image.fromarray(scene[:70, :90]).filter(ImageFilter.GaussianBlur(1.5))
    wide = np.asarray(blurred).astype(np.uint16) * 257
    alpha = np.full((70, 90), 40_000, np.uint16)
    write_photo(Photo(wide, alpha=alpha), tmp_path / "a.png")
    assert unblur("run", tmp_path / "a.png").exit_code == 0
    sharp = read_photo(tmp_path / "a_sharp.png")
    assert sharp.pixels.dtype == np.uint16
    assert np.array_equal(sharp.alpha, alpha)
    assert len(np.unique(sharp.pixels % 257)) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "no such file"),
        (["a.png", "--model", "smoll"], "Did you mean 'small'"),
        (["a.png", "--format", "xyz"], "unknown format"),
        (["a.png", "--strength", "2"], "strength"),
        (["a.png", "--runtime", "tpu"], "runtime"),
        (["a.png", "a.png", "-o", "a.png"], "several results need a folder"),
        (["a.png", "-o", "out.gif"], "can be written"),
        (["a.png", "-o", "out.png", "--format", "jpg"], "is no JPEG name"),
        (["a.png", "--tile", "8"], "tile must be at least"),
        (["a.png", "--device", "tpu"], "no device 'tpu'"),
        (["x" * 300], "cannot be read"),
        (["a.png", "-o", "x" * 300], "cannot be read"),
        (["a.png", "--overwrite", "--skip-existing"], "exclude each other"),
        ([os.sep], "name the folder for the results"),
        (["a.png", "-o", "out.xyz"], "extension"),
        ([], "INPUT"),
    ],
)
def test_usage_errors(
    tmp_path: Path,
    scene: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photo(Photo(scene[:20, :20]), tmp_path / "a.png")
    result = unblur("run", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    told = unblur("run", *arguments, "--json").stdout
    assert not told or message in json.loads(told)["error"]
    assert bool(told) != ("Usage: " in result.output)  # what typer refuses is said in its words
    assert tree(tmp_path) == ["a.png"]


def test_the_input_is_never_the_output(tmp_path: Path, scene: np.ndarray) -> None:
    path = tmp_path / "a.png"
    write_photo(Photo(scene[:20, :20]), path)
    before = digest(path)
    for output in (path, tmp_path):
        result = unblur("run", path, "-o", output, "--overwrite")
        assert result.exit_code == 1
        assert "would replace the input" in result.stderr
    assert digest(path) == before


def test_max_pixels(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene), tmp_path / "a.png")
    result = unblur("run", tmp_path / "a.png", "--max-pixels", 0.5)
    assert result.exit_code == 1
    assert "more than the limit" in result.stderr


def test_interruption_leaves_whole_files_and_resumes(tmp_path: Path, scene: np.ndarray) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(40):
        write_photo(Photo(scene), folder / f"{index:02}.png")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*UNBLUR, "run", str(folder), "-o", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while not out.is_dir() or len(tree(out)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--skip-existing resumes" in errors
    assert "Traceback" not in errors
    done = tree(out)
    assert 2 <= len(done) < 40
    for name in done:
        assert not name.startswith(".")
        assert read_photo(out / name).pixels.shape == scene.shape
    for path in sorted(folder.iterdir())[len(done) + 2 :]:
        path.unlink()
    again = unblur("run", folder, "-o", out, "--skip-existing")
    assert again.exit_code == 0
    assert f"2 restored, {len(done)} skipped" in again.stderr


def test_torch_is_not_needed(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:40, :40]), tmp_path / "a.png")
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # importing it would now fail
        "sys.argv = ['unblur', 'run', sys.argv[1], '--runtime', 'onnxruntime']\n"
        "from unblur.cli import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a_sharp.png").is_file()


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from unblur.cli import main\n"
        "sys.argv = ['unblur', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'PIL', 'openvino'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_pipe_that_does_not_have_all_letters(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    for command in (["models"], ["demo", "-o", str(tmp_path)]):
        script = "from unblur.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script, *command], env=environment, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_comparisons_never_replace_anything(tmp_path: Path, scene: np.ndarray) -> None:
    """A comparison is a result like others: no input and no existing file gives way to it."""
    write_photo(Photo(scene[:40, :50]), tmp_path / "p_compare.jpg")
    before = digest(tmp_path / "p_compare.jpg")
    taken = unblur("run", tmp_path / "p_compare.jpg", "-o", tmp_path / "p.jpg", "--compare")
    assert taken.exit_code == 0
    assert digest(tmp_path / "p_compare.jpg") == before
    assert (tmp_path / "p.jpg_compare.jpg").is_file()
    write_photo(Photo(scene[:40, :50]), tmp_path / "q.png")
    (tmp_path / "q_sharp_compare.jpg").write_bytes(b"mine")
    refused = unblur("run", tmp_path / "q.png", "--compare")
    assert refused.exit_code == 1
    assert (tmp_path / "q_sharp_compare.jpg").read_bytes() == b"mine"
    assert not (tmp_path / "q_sharp.png").exists()
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("a.jpg", "a.png"):
        write_photo(Photo(scene[:40, :50]), folder / name)
    assert unblur("run", folder, "-o", tmp_path / "out", "--compare").exit_code == 0
    expected = ["a.jpg", "a.png", "a.png_compare.jpg", "a_compare.jpg"]
    assert tree(tmp_path / "out") == expected


def test_comparisons_of_what_is_kept(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:40, :50]), tmp_path / "a.png")
    assert unblur("run", tmp_path / "a.png").exit_code == 0
    result, compared = tmp_path / "a_sharp.png", tmp_path / "a_sharp_compare.jpg"
    for missing, status in ((compared, "1 skipped"), (result, "1 restored")):
        missing.unlink(missing_ok=True)
        there = {path: digest(path) for path in (result, compared) if path.exists()}
        made = unblur("run", tmp_path / "a.png", "--compare", "--skip-existing")
        assert (made.exit_code, status in made.stderr) == (0, True), made.output
        assert result.exists()
        assert compared.exists()
        assert {path: digest(path) for path in there} == there
    write_photo(Photo(scene[:50, :50]), result, overwrite=True)
    compared.unlink()
    refused = unblur("run", tmp_path / "a.png", "--compare", "--skip-existing")
    assert refused.exit_code == 1
    assert "has another size" in refused.stderr
    assert not compared.exists()


def test_comparisons_are_no_photos(tmp_path: Path, scene: np.ndarray) -> None:
    for name in ("a.jpg", "a.png"):
        write_photo(Photo(scene[:40, :50]), tmp_path / name)
    unblur("run", tmp_path / "a.jpg", tmp_path / "a.png", "--compare")
    assert "a_sharp.png_compare.jpg" in tree(tmp_path)
    again = unblur("run", tmp_path, "-o", tmp_path / "out")
    assert "2 restored" in again.stderr
    assert tree(tmp_path / "out") == ["a.jpg", "a.png"]


def test_another_input_is_never_replaced(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:40, :50]), tmp_path / "a.jpg")
    write_photo(Photo(scene[40:80, :50]), tmp_path / "a.png")
    before = digest(tmp_path / "a.png")
    result = unblur("run", tmp_path, "-o", tmp_path, "--format", "png", "--overwrite")
    assert result.exit_code == 1
    assert digest(tmp_path / "a.png") == before


def test_a_file_named_twice_is_restored_once(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:40, :50]), tmp_path / "a.png")
    result = unblur("run", tmp_path / "a.png", tmp_path / ".." / tmp_path.name / "a.png")
    assert result.exit_code == 0
    assert "1 restored" in result.stderr


def test_earlier_results_are_not_restored_again(tmp_path: Path, scene: np.ndarray) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_photo(Photo(scene[:40, :50]), folder / "a.png")
    write_photo(Photo(scene[:40, :50]), folder / "razor_sharp.png")  # a photo's own name
    assert unblur("run", folder / "a.png", "--compare").exit_code == 0
    assert len(tree(folder)) == 4
    result = unblur("run", folder)
    assert result.exit_code == 0
    assert tree(tmp_path / "in_sharp") == ["a.png", "razor_sharp.png"]
    # Nor is a folder of them, beside the one that they are of.
    below = unblur("run", tmp_path, "-o", tmp_path / "all", "--strength", "0")
    assert below.exit_code == 0
    assert {name.split("/")[0] for name in tree(tmp_path / "all")} == {"in"}


def test_names_with_dots_and_without_extension(tmp_path: Path, scene: np.ndarray) -> None:
    write_photo(Photo(scene[:40, :50]), tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    for name in ("photo.v1", "photo.v2", "plain", "a.b.png"):
        (tmp_path / name).write_bytes(content)
    names = [tmp_path / name for name in ("photo.v1", "photo.v2", "plain", "a.b.png")]
    out = tmp_path / "out"
    assert unblur("run", *names, "-o", out).exit_code == 0
    assert tree(out) == ["a.b.png", "photo.v1.png", "photo.v2.png", "plain.png"]
    resumed = unblur("run", *names, "-o", out, "--skip-existing")
    assert resumed.exit_code == 0
    assert "4 skipped" in resumed.stderr


def test_links(tmp_path: Path, scene: np.ndarray) -> None:
    real = tmp_path / "elsewhere" / "real"
    real.mkdir(parents=True)
    write_photo(Photo(scene[:40, :50]), real / "a.png")
    (tmp_path / "album").symlink_to(real)
    assert unblur("run", tmp_path / "album").exit_code == 0
    assert tree(tmp_path / "album_sharp") == ["a.png"]
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "inner").symlink_to(real)
    (outer / "loop.jpg").symlink_to("loop.jpg")
    write_photo(Photo(scene[:40, :50]), outer / "b.png")
    result = unblur("run", outer)
    assert result.exit_code == 1
    assert "inner" in result.stderr
    assert "1 restored, 1 failed" in result.stderr


def test_unexpected_errors_cost_one_file(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = batch.read_photo

    def sometimes(path: Path, limit: int) -> Photo:
        if path.name == "a.png":
            raise RuntimeError("a bug")
        return read(path, limit)

    monkeypatch.setattr(batch, "read_photo", sometimes)
    result = unblur("run", album, "-o", tmp_path / "out", "--json")
    errors = [file["error"] for file in json.loads(result.stdout)["files"]]
    assert any("unexpected RuntimeError: a bug" in (error or "") for error in errors)
    assert tree(tmp_path / "out") == ["day 1/b.JPG", "day 1/beach/c.webp"]


def test_json_is_printed_for_usage_errors_too(tmp_path: Path) -> None:
    result = unblur("run", tmp_path / "none.jpg", "--json")
    assert result.exit_code == 2
    assert "no such file" in json.loads(result.stdout)["error"]
    empty = tmp_path / "empty"
    empty.mkdir()
    result = unblur("run", empty, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["files"] == []


def test_nothing_is_reported_to_anyone(tmp_path: Path, scene: np.ndarray) -> None:
    """The runtimes' own telemetry is off: nothing is written to the user's home."""
    write_photo(Photo(scene[:40, :50]), tmp_path / "a.png")
    home = tmp_path / "home"
    home.mkdir()
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        subprocess.run(
            [*UNBLUR, "run", tmp_path / "a.png", "--overwrite", "--runtime", runtime],
            check=True,
            capture_output=True,
            env={**os.environ, "HOME": str(home), "CI": "", "XDG_CACHE_HOME": ""},
        )
    assert tree(home) == []


def test_a_photo_larger_than_the_room_goes_in_when_it_is_empty() -> None:
    room, gone_in = batch._Room(), threading.Event()

    def large() -> None:
        with room.take(100_000_000):
            gone_in.set()

    first, second = room.take(1920 * 1080), room.take(1280 * 720)
    first.__enter__()
    second.__enter__()
    waiting = threading.Thread(target=large, daemon=True)
    waiting.start()
    first.__exit__(None, None, None)
    assert not gone_in.wait(0.2)
    second.__exit__(None, None, None)
    assert gone_in.wait(10)


def test_cores_are_shared_out_by_what_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "cores", lambda: 8)

    def photos(width: int, height: int) -> list[Path]:
        path = tmp_path / f"{width}.png"
        Image.new("1", (width, height)).save(path)
        return [path] * 16

    assert batch.share_out(photos(100, 80), "onnxruntime", None) == (9, 1)
    assert batch.share_out(photos(6000, 4000), "onnxruntime", None) == (3, 4)
    assert batch.share_out(photos(10_000, 8000), "onnxruntime", None) == (2, 8)
    small = photos(100, 80)
    assert batch.share_out(small[:5], "onnxruntime", None) == (2, None)
    assert batch.share_out([*small, tmp_path / "a.mp4"], "onnxruntime", None) == (2, None)
    assert batch.share_out(small, "openvino", None) == (2, None)
    assert batch.share_out(small, "onnxruntime", 3) == (2, 3)
