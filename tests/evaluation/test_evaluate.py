"""The evaluation end to end: known answers, failures, resumption, leaks, the report."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from unblur.cli import app
from unblur.data import DataError
from unblur.evaluation import (
    EvaluationError,
    FunctionRestorer,
    ModelSpec,
    SetSpec,
    evaluate,
    open_set,
    parse_protocol,
    restorers,
)
from unblur.evaluation.evaluate import Evaluation
from unblur.evaluation.report import write_report
from unblur.evaluation.restorers import send
from unblur.evaluation.statistics import compare
from unblur.files import file_name
from unblur.imaging import Photo, write_photo
from unblur.inference import Deblurrer
from unblur.registry import ConfigError
from unblur.training import read_recipe, train


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def known(tmp_path: Path, scene: np.ndarray) -> Path:
    """Pairs of two sequences whose inputs are wrong by 2, 4, 6 … of 255 everywhere."""
    root = tmp_path / "known"
    for index in range(6):
        part = np.clip(scene[:200, index * 40 : index * 40 + 180].astype(int), 0, 200)
        name = f"{'ab'[index % 2]}/{index}.png"
        for side, pixels in (("sharp", part), ("blur", part + 2 * (index + 1))):
            path = root / "train" / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def halfway(image: np.ndarray) -> np.ndarray:
    """Takes 2/255 of whatever is wrong away."""
    return image - 2 / 255


def run(known: Path, **settings: object) -> Evaluation:
    return evaluate(
        [FunctionRestorer(halfway, "halfway")], [open_set(SetSpec(f"flat:{known}"))], **settings
    )  # type: ignore[arg-type]


def test_a_known_answer(known: Path, tmp_path: Path) -> None:
    evaluation = run(known, folder=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["model"], written["protocol"]) == ("halfway", "full")
    rows = {row["name"]: row for row in written["images"]}
    assert len(rows) == 6
    expected_in, expected_out = [], []
    for index in range(6):
        row = rows[f"train/{'ab'[index % 2]}/{index}"]
        expected_in.append(20 * math.log10(255 / (2 * (index + 1))))
        expected_out.append(100.0 if index == 0 else 20 * math.log10(255 / (2 * index)))
        assert row["psnr_input"] == pytest.approx(expected_in[-1])
        assert row["psnr"] == pytest.approx(expected_out[-1])
        assert row["gain"] == pytest.approx(expected_out[-1] - expected_in[-1])
        assert row["mse"] == pytest.approx((2 * index / 255) ** 2)
        assert row["mae_input"] == pytest.approx(2 * (index + 1) / 255)
        assert (row["width"], row["height"], row["sequence"]) == (
            180,
            200,
            f"train/{'ab'[index % 2]}",
        )
    mean = written["mean"]
    assert mean["psnr"] == pytest.approx(np.mean(expected_out))
    assert mean["psnr_input"] == pytest.approx(np.mean(expected_in))
    assert (mean["count"], mean["failed"], mean["identical"]) == (6, 0, 1)
    assert evaluation.is_complete
    with (tmp_path / "out" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert float(table[0]["psnr"]) == rows[table[0]["name"]]["psnr"]
    with pytest.raises(EvaluationError, match="exists"):
        run(known, folder=tmp_path / "out")


def test_what_came_out_worse(known: Path, tmp_path: Path) -> None:
    """Counted among inputs that are clearly blurred: below 40 dB, here the last five of six."""

    def darker(image: np.ndarray) -> np.ndarray:  # better for inputs that are 6 of 255 off, or more
        return image - 10 / 255

    def kept(image: np.ndarray) -> np.ndarray:
        return image

    models = [FunctionRestorer(darker, "darker"), FunctionRestorer(kept, "kept")]
    sets = [open_set(SetSpec(f"flat:{known}", name=name)) for name in ("one", "two")]
    evaluation = evaluate(models, sets, pictures=True)
    for result in evaluation.results:
        inputs = [row["psnr_input"] for row in result.rows]
        assert sum(psnr < 40 for psnr in inputs) == result.mean["clearly_blurred"] == 5
        lost = [row for row in result.rows if row["gain"] < -0.1 and row["psnr_input"] < 40]
        assert len(lost) == result.mean["worse"] == (1 if result.model.label == "darker" else 0)
    report = write_report(evaluation, tmp_path).read_text()
    assert "Made worse: images whose input is below 40 dB, and that lose more than 0.1" in report
    assert "<td>all</td><td>2 <small>of 10</small></td><td>0 <small>of 10</small></td>" in report


def test_one_failure_costs_one_image(known: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 30)).save(known / "train/blur/a/0.png")  # another size
    (known / "train/sharp/b/1.png").unlink()  # no partner
    (known / "train/blur/a/2.png").write_bytes(b"no image")
    result = unblur("evaluate", "--data", f"flat:{known}", "-o", tmp_path / "out", "--threads", 1)
    assert result.exit_code == 1, result.output
    assert "blurred is 30×30" in result.output
    assert "no partner" in result.output
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["mean"]["count"] == 3
    assert written["mean"]["failed"] == 2
    assert len(written["problems"]) == 1
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Not everything could be measured" in report
    assert "no partner" in report


def test_a_model_that_fails_on_one_image(known: Path) -> None:
    def fragile(image: np.ndarray) -> np.ndarray:
        if image.mean() > 0.4:
            raise EvaluationError("too bright")
        return image if image.mean() < 0.3 else image[:50]

    data = open_set(SetSpec(f"flat:{known}"))
    (result,) = evaluate([FunctionRestorer(fragile, "fragile")], [data]).results
    errors = {row["error"] for row in result.failed}
    assert 0 < len(result.failed) <= 6
    assert errors <= {"too bright", "is 180×50, the sharp image 180×200"}


def test_a_process_that_is_killed(known: Path, tmp_path: Path) -> None:
    from unblur.evaluation.restorers import ProcessRestorer

    case = open_set(SetSpec(f"flat:{known}")).cases[0]
    with ProcessRestorer(ModelSpec("small", threads=1)) as restorer:
        before = restorer.restore(case.load())
        assert before.peak_bytes is None or before.peak_bytes > 10e6
        assert restorer._process is not None
        restorer._process.kill()
        with pytest.raises(EvaluationError, match="process ended"):
            restorer.restore(case.load())
        # The next image has a new one.
        again = restorer.restore(case.load())
    assert np.array_equal(before.image, again.image)


def interrupted_once() -> tuple[FunctionRestorer, list[int]]:
    """Leaves images as they are, but is interrupted at the fourth; and a list of its calls."""
    calls: list[int] = []

    def counted(image: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return image

    return FunctionRestorer(counted, "one"), calls


def test_interrupted_it_goes_on(known: Path, tmp_path: Path) -> None:
    one, calls = interrupted_once()
    folder, data = tmp_path / "out", open_set(SetSpec(f"flat:{known}"))
    with pytest.raises(KeyboardInterrupt):
        evaluate([one], [data], folder=folder)
    assert not (folder / "metrics.json").exists()
    with (folder / "images.partial.jsonl").open("a") as file:
        file.write('["one", "cut off')
    with pytest.raises(EvaluationError, match="unfinished evaluation of other"):
        evaluate([one], [data], parse_protocol("full+y"), folder=folder)
    (result,) = evaluate([one], [data], folder=folder).results
    assert len(calls) == 4 + 3
    assert len(result.measured) == 6
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", "metrics.json"]


def test_what_is_saved_is_not_restored_again(known: Path, tmp_path: Path) -> None:
    one, calls = interrupted_once()
    folder, data = tmp_path / "out", open_set(SetSpec(f"flat:{known}"))
    with pytest.raises(KeyboardInterrupt):
        evaluate([one], [data], folder=folder, save=True)
    with pytest.raises(EvaluationError, match="unfinished evaluation of other"):
        evaluate([one], [data], folder=folder)
    evaluate([one], [data], folder=folder, save=True)
    assert len(calls) == 4 + 3
    assert len(list(folder.rglob("*.png"))) == 6


def test_results_do_not_lie_among_what_is_measured(known: Path) -> None:
    with pytest.raises(DataError, match="lies inside the data set"):
        run(known, folder=known / "out")
    timed = ("--model", "small", "--data", f"flat:{known}", "-o", known / "out")
    result = unblur("benchmark", *timed)
    assert result.exit_code != 0
    assert "lies inside the data set" in result.output
    assert not (known / "out").exists()


def test_nothing_is_imported_from_where_one_is(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of one's own, or of somebody's data set, may be called as a module is."""
    for name in ("queue.py", "statistics.py"):
        (tmp_path / name).write_text("raise SystemExit('not the standard library')")
    monkeypatch.chdir(tmp_path)
    found = evaluate([ModelSpec("unsharp")], [open_set(SetSpec(f"flat:{known}"))])
    assert found.results[0].mean["count"] == 6


def test_sixteen_bits_of_restored_images_count(tmp_path: Path, scene: np.ndarray) -> None:
    sharp = scene[:64, :64]
    for folder in ("sharp", "restored"):
        (tmp_path / folder).mkdir()
    Image.fromarray(sharp).save(tmp_path / "sharp" / "a.png")
    deep = np.clip(sharp.astype(np.uint16) * 257 + 100, 0, 65535)
    write_photo(Photo(deep), tmp_path / "restored" / "a.png")
    (result,) = evaluate(
        [ModelSpec(str(tmp_path / "restored"), restored=True)],
        [open_set(SetSpec(f"sharp:{tmp_path / 'sharp'}"))],
        parse_protocol("full+float"),
    ).results
    error = deep / 65535 - sharp / 255
    assert result.rows[0]["psnr"] == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-3)


def test_a_run_in_this_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "NAME").mkdir()
    monkeypatch.chdir(tmp_path / "NAME")
    assert ModelSpec("TIME/checkpoints/last.safetensors").label == "NAME"


@pytest.mark.slow
def test_killed_it_goes_on(data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "from unblur.cli import main; main()", "evaluate",
        "--data", f"gopro:{data / 'gopro'}", "--count", "4", "-o", str(tmp_path / "out"),
        "--threads", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    log = tmp_path / "out" / "images.partial.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) > 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = json.loads(log.read_text().splitlines()[1])[-1]
    subprocess.run(command, check=True)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["mean"]["count"] == 4
    assert written["images"][0] == first  # with its seconds: it was not measured again


def test_only_the_baseline_that_says_so_sees_the_sharp_image(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []

    def record(stream: Any, header: dict[str, Any], arrays: Any) -> None:
        told.append(header["told"])
        send(stream, header, arrays)

    monkeypatch.setattr(restorers, "send", record)
    blurred = open_set(SetSpec(f"sharp:{photos}", blur="gaussian:sigma=2", count=1))
    for model in ("small", "wiener", "blind-richardson-lucy"):
        evaluate([ModelSpec(model)], [blurred])
    assert told == [["kernel"]] * 3
    (shown,) = evaluate([ModelSpec("displaced")], [blurred]).results
    assert told[3:] == [["kernel", "sharp"]]
    assert shown.mean["mse"] == 0  # this blur moves nothing


def test_oracles_are_not_asked_without_a_kernel(known: Path) -> None:
    (result,) = evaluate([ModelSpec("wiener")], [open_set(SetSpec(f"flat:{known}"))]).results
    assert result.mean["skipped"] == 6
    assert not result.failed


def test_the_same_numbers_everywhere(
    recipe_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    """A training's validation, the command and the Python API agree, and leaks are told."""
    folder = train(read_recipe(recipe_file(), ["--data.crop", "64", "--data.val_length", "9"]))
    summary = json.loads((folder / "summary.json").read_text())
    weights = folder / "checkpoints" / "last.safetensors"
    blur = "gaussian:sigma=1.5"
    common = ["--data", f"sharp:{photos}", "--blur", blur, "--threads", 1]
    result = unblur(
        "evaluate", "--model", weights, *common, "--root", tmp_path,
        "--split", os.path.relpath(folder / "split.json"),  # from here, not from the root
        "--protocol", "center-crop:64", "-o", tmp_path / "val",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert written["mean"]["count"] == summary["val_images"]
    assert written["leak"] == {"sequences": [], "images": 0}
    assert "LEAK" not in result.output
    data = open_set(SetSpec(f"sharp:{photos}", blur=blur, split=str(folder / "split.json")))
    protocol = parse_protocol("center-crop:64")
    (api,) = evaluate([ModelSpec(str(weights), threads=1)], [data], protocol).results
    for name in ("psnr", "psnr_input", "ssim", "ssim_input"):
        assert api.mean[name] == written["mean"][name]
    # The training blurs crops with their surroundings, as here, so all is the same but rounding.
    assert written["mean"]["psnr_input"] == pytest.approx(summary["psnr_input"], abs=0.02)
    assert written["mean"]["psnr"] == pytest.approx(summary["psnr"], abs=0.02)
    assert written["mean"]["ssim"] == pytest.approx(summary["ssim"], abs=1e-3)

    onnx = tmp_path / "tiny.onnx"
    assert unblur("export", weights, "-o", onnx).exit_code == 0
    result = unblur(
        "evaluate", "--model", weights, "--model", f"exported={onnx}", *common,
        "-o", tmp_path / "all",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    leaking = json.loads((tmp_path / "all" / "metrics.json").read_text())["results"]
    for each in leaking:
        assert len(each["leak"]["sequences"]) == summary["train_images"]
    assert [each["model"] for each in leaking] == ["tiny", "exported"]
    assert leaking[0]["mean"]["psnr"] == pytest.approx(leaking[1]["mean"]["psnr"], abs=0.01)
    assert "LEAK: exported was trained on" in result.output
    report = (tmp_path / "all" / "report.html").read_text()
    assert "Trained on what it is evaluated on" in report


def test_images_that_were_sharp_already(known: Path) -> None:
    """They are counted, and left out of means of PSNR; where all are, they count as 100 dB."""
    for index in (0, 1):
        name = f"train/blur/{'ab'[index]}/{index}.png"
        (known / name).write_bytes((known / name.replace("blur", "sharp")).read_bytes())
    (mixed,) = evaluate(
        [FunctionRestorer(halfway, "halfway")], [open_set(SetSpec(f"flat:{known}"))]
    ).results
    mean = mixed.mean
    assert (mean["count"], mean["identical_input"]) == (6, 2)
    rest = [row for row in mixed.rows if row["psnr_input"] < 100]
    assert len(rest) == 4
    assert mean["psnr_input"] == pytest.approx(np.mean([row["psnr_input"] for row in rest]))
    assert mean["worst_gain"] == min(row["gain"] for row in rest) > 0
    assert mean["psnr_of_identical"] == pytest.approx(20 * math.log10(255 / 2))
    assert mean["mse"] == pytest.approx(np.mean([row["mse"] for row in mixed.rows]))
    (alike,) = evaluate(
        [FunctionRestorer(halfway, "halfway")],
        [open_set(SetSpec(f"sharp:{known / 'train' / 'sharp'}"))],
    ).results
    assert alike.mean["psnr_input"] == 100
    assert alike.mean["psnr"] == pytest.approx(20 * math.log10(255 / 2))


def test_sequences_are_chosen(known: Path) -> None:
    data = open_set(SetSpec(f"flat:{known}", sequences=("b",)))
    assert set(data.sequences) == {"train/b"}
    with pytest.raises(ConfigError, match=r"unknown subset.*train"):
        open_set(SetSpec(f"flat:{known}", subset="tests"))
    assert len(open_set(SetSpec(f"flat:{known}", count=2), patches=(2, 3)).cases) == 12
    with pytest.raises(ConfigError, match="train/a"):
        open_set(SetSpec(f"flat:{known}", sequences=("c",)))


def test_a_card_takes_what_was_measured(
    recipe_file: Callable[..., Path], known: Path, tmp_path: Path
) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    weights = folder / "checkpoints" / "last.safetensors"
    out = tmp_path / "measured"
    data = ["--data", f"flat:{known}", "--metrics", "psnr", "--threads", 1]
    assert unblur("evaluate", "--model", weights, *data, "-o", out).exit_code == 0
    model = tmp_path / "tiny.onnx"
    exported = unblur("export", weights, "-o", model, "--measured", out / "metrics.json")
    assert exported.exit_code == 0, exported.output
    (shown,) = json.loads(unblur("models", model, "--json").output)
    mean = json.loads((out / "metrics.json").read_text())["mean"]
    assert shown["measured"] == {
        f"flat:{known}": {key: round(mean[key], 4) for key in ("psnr_input", "psnr")}
    }
    written = json.loads((out / "metrics.json").read_text())
    for change, expected in (
        ({"sha256": "0"}, "did not measure"),
        ({"leak": {"sequences": ["a"], "images": 1}}, "trained on"),
        ({"protocol": "full+y"}, "protocol full alone"),
    ):
        (out / "other.json").write_text(json.dumps(written | change))
        refused = unblur(
            "export", weights, "-o", tmp_path / "x.onnx", "--measured", out / "other.json"
        )
        assert refused.exit_code == 2
        assert expected in refused.output
    (out / "metrics.json").write_text("[]")
    refused = unblur(
        "export", weights, "-o", tmp_path / "x.onnx", "--measured", out / "metrics.json"
    )
    assert refused.exit_code == 2
    assert "not a metrics.json" in refused.output


def test_best_stands_beside_what_it_improves(known: Path, tmp_path: Path) -> None:
    data = ["--data", f"flat:{known}", "--threads", 1, "--count", 2, "--save"]
    out = tmp_path / "out"
    models = ["--model", "unsharp", "--model", "a=small", "--best"]
    done = unblur("evaluate", *models, *data, "-o", out)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "metrics.json").read_text())["results"]
    assert [(r["model"], r["best"]) for r in results] == [
        ("unsharp", False), ("a", False), ("a --best", True)
    ]  # fmt: skip
    name = results[0]["images"][0]["name"]
    blurred = np.asarray(
        Image.open(known / "train" / "blur" / f"{name.removeprefix('train/')}.png")
    )
    expected = Deblurrer("small", threads=1, best=True).restore_pixels(blurred)
    (saved,) = (out / "restored" / file_name("a --best")).iterdir()
    assert np.array_equal(np.asarray(Image.open(saved / f"{name}.png")), expected)


def test_restored_elsewhere(known: Path, tmp_path: Path) -> None:
    """What --save keeps gives the same figures when it is evaluated as a folder."""
    data = ["--data", f"flat:{known}", "--threads", 1]
    first = unblur("evaluate", "--model", "small", *data, "--save", "-o", tmp_path / "one")
    assert first.exit_code == 0, first.output
    (saved,) = (tmp_path / "one" / "restored" / "small").iterdir()
    assert len(list(saved.rglob("*.png"))) == 6
    second = unblur("evaluate", "--restored", saved, *data, "-o", tmp_path / "two")
    assert second.exit_code == 0, second.output
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two"))
    assert two["mean"]["psnr"] == one["mean"]["psnr"]
    (saved / "train" / "a" / "0.png").unlink()
    third = unblur("evaluate", "--restored", saved, *data, "-o", tmp_path / "three")
    assert third.exit_code == 1
    assert "no such restored image" in third.output


def test_patches_are_restored_alone(known: Path) -> None:
    protocol = parse_protocol("patches:2x3")
    data = open_set(SetSpec(f"flat:{known}"), patches=protocol.patches)
    (result,) = evaluate([FunctionRestorer(halfway, "halfway")], [data], protocol).results
    assert len(result.rows) == 36
    assert {(row["width"], row["height"]) for row in result.rows} == {(60, 100)}
    with pytest.raises(EvaluationError, match="patches of the protocol"):
        run(known, protocol=protocol)


def test_patches_are_cut_out_of_the_blurred_image(known: Path) -> None:
    spec = SetSpec(f"sharp:{known / 'train' / 'sharp'}", blur="shake:extent=20", count=2)
    wholes = {case.name: case.load() for case in open_set(spec).cases}
    patches = open_set(spec, patches=(2, 3)).cases
    assert len(patches) == 12
    for case in patches:
        name, _, place = case.name.rpartition("/")
        row, column = (int(number) - 1 for number in place.split("-")[1:])
        part = np.s_[100 * row : 100 * row + 100, 60 * column : 60 * column + 60]
        example = case.load()
        assert np.array_equal(example.blurred, wholes[name].blurred[part])
        assert np.array_equal(example.sharp, wholes[name].sharp[part])


def test_inputs_named_by_absolute_paths_stay_as_they_are(tmp_path: Path, scene: np.ndarray) -> None:
    sharp, blurred = (tmp_path / "scene" / kind / f"{kind}_1.png" for kind in ("gt", "blur"))
    for path in (sharp, blurred):
        path.parent.mkdir(parents=True)
        Image.fromarray(scene[:64, :64]).save(path)
    listing = tmp_path / "own_list.txt"
    listing.write_text(f"{sharp} {blurred}")
    before = blurred.read_bytes()
    done = unblur(
        *("evaluate", "--model", "unsharp", "--data", f"realblur:{listing}", "--metrics", "psnr"),
        *("--save", "-o", tmp_path / "out"),
    )
    assert done.exit_code == 0, done.output
    assert blurred.read_bytes() == before
    (saved,) = (tmp_path / "out" / "restored").rglob("*.png")
    assert saved.as_posix().endswith("/scene/blur/blur_1.png")


class Page(HTMLParser):
    """Collects what a page loads, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action") and value:
                self.loaded.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report(known: Path, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    (known / "train/sharp/b/5.png").rename(known / f"train/sharp/b/{hostile}.png")
    (known / "train/blur/b/5.png").rename(known / f"train/blur/b/{hostile}.png")
    data = open_set(SetSpec(f"flat:{known}", name=f"set {hostile}"))
    models = [
        FunctionRestorer(halfway, f"model {hostile}"),
        FunctionRestorer(lambda image: image * 0.9, "darker"),
    ]
    evaluation = evaluate(models, [data], pictures=True)
    path = write_report(evaluation, tmp_path / "out")
    content = path.read_text()
    assert hostile not in content
    page = Page()
    page.feed(content)
    assert hostile in page.text
    assert all(url.startswith(("data:", "#")) for url in page.loaded), page.loaded
    assert not re.search(r"url\((?!#)", content)
    assert not re.search(r"@import|<link|<iframe", content)
    for words in ("By sequence", "Differences between models", "best, median and worst", "darker",
                  "95 % interval", "How to repeat this", "rounded to 8 bits"):  # fmt: skip
        assert words in page.text
    assert page.tags.count("svg") == 4  # two histograms, gain against input, gain against time
    identifiers = re.findall(r' id="([^"]+)"', content)
    assert len(identifiers) == len(set(identifiers))
    assert len(list((tmp_path / "out" / "plots").iterdir())) == 4
    strips = sorted((tmp_path / "out" / "cases").iterdir())
    assert len(strips) == 6
    with Image.open(strips[0]) as strip:
        assert strip.width == 4 * 300 + 3 * 8


def test_who_is_told_the_truth_is_not_the_best(photos: Path, tmp_path: Path) -> None:
    blurred = open_set(SetSpec(f"sharp:{photos}", blur="gaussian:sigma=2", count=1))
    same, darker = (
        FunctionRestorer(lambda image, share=share: image * share, str(share))
        for share in (np.float32(1), np.float32(0.5))
    )
    for models, crowned in (([ModelSpec("displaced"), same], 0), ([same, darker], 1)):
        path = write_report(evaluate(models, [blurred]), tmp_path / str(crowned))
        assert len(re.findall(r'class="[^"]*\bbest\b', path.read_text())) == crowned


def test_differences_have_intervals(known: Path) -> None:
    data = open_set(SetSpec(f"flat:{known}"))
    better = FunctionRestorer(halfway, "better")
    same = FunctionRestorer(lambda image: image, "same")
    first, second = evaluate([better, same], [data]).results
    difference = compare(first, second)
    assert difference is not None
    assert difference.low <= difference.mean <= difference.high
    assert difference.is_clear
    assert difference.better == 1
    assert difference.images == 6
    assert difference.clusters is None  # two sequences are too few to draw from
    other = compare(second, first)
    assert other is not None
    assert other.mean == pytest.approx(-difference.mean)
    itself = compare(first, first)
    assert itself is not None
    assert not itself.is_clear


def test_mistakes(known: Path, tmp_path: Path) -> None:
    data = ["--data", f"flat:{known}"]
    for arguments, code, words in (
        ([*data, "--model", "tiny"], 1, "unknown model 'tiny'"),
        ([*data, "--metrics", "psnr,psrn"], 2, "unknown metric 'psrn'"),
        ([*data, "--metrics", "ssim"], 2, "psnr is needed"),
        ([*data, "--protocol", "half"], 1, "not understood"),
        ([*data, *data], 1, "two sets are called"),
        ([*data, "--model", "small", "--model", "small"], 1, "two models are called"),
        ([*data, "--restored", known / "absent"], 1, "no such folder"),
        (["--data", f"flat:{known / 'absent'}"], 1, "no such file"),
        ([], 2, "name what to evaluate on"),
        ([*data, "--blur", "fog"], 1, "unknown blur 'fog'"),
        ([*data, "--resize", "3"], 2, "two whole numbers"),
        ([*data, "--reblur"], 2, "reblur needs a blur"),
        ([*data, "--each"], 2, "each needs a blur"),
        ([*data, "--best", "--model", "unsharp"], 2, "name a model that it can restore with"),
    ):  # fmt: skip
        result = unblur("evaluate", *arguments, "-o", tmp_path / "out")
        assert result.exit_code == code, (arguments, result.output)
        assert words in result.output, (arguments, result.output)
        assert "Traceback" not in result.output


def test_a_suite_says_its_settings_itself(known: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "- {data: 'flat:known', name: all}\n- {data: 'flat:known', name: b, sequences: [b]}\n"
    )
    common = ["evaluate", "--suite", suite, "--root", tmp_path, "--model", "unsharp"]
    common += ["--metrics", "psnr"]
    refused = unblur(*common, "--seed", 0, "--blur", "photo", "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "blur, seed: for --data" in refused.output
    result = unblur(*common, "--count", 4, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())["results"]
    assert [(r["data"], r["mean"]["count"]) for r in results] == [("all", 4), ("b", 3)]


def test_an_interrupted_report_is_made_again(known: Path, tmp_path: Path) -> None:
    data, out = open_set(SetSpec(f"flat:{known}")), tmp_path / "out"

    def interrupted(_: Evaluation) -> None:
        raise KeyboardInterrupt

    calls = []

    def counted(image: np.ndarray) -> np.ndarray:
        calls.append(image)
        return halfway(image)

    with pytest.raises(KeyboardInterrupt):
        evaluate([FunctionRestorer(counted, "m")], [data], folder=out, report=interrupted)
    assert not (out / "metrics.json").exists()
    evaluation = evaluate(
        [FunctionRestorer(counted, "m")], [data], folder=out,
        report=lambda each: write_report(each, out),
    )  # fmt: skip
    assert (len(calls), len(evaluation.results[0].rows)) == (6, 6)
    assert (out / "report.html").is_file()
    assert (out / "metrics.json").is_file()


def test_a_kernel_that_changed_is_another_evaluation(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    restorer = FunctionRestorer(halfway, "m")

    def interrupted(_: Evaluation) -> None:
        raise KeyboardInterrupt

    specs = []
    for shape in ((1, 9), (9, 1)):
        kernel = tmp_path / str(shape) / "k.npy"
        kernel.parent.mkdir()
        np.save(kernel, np.full(shape, 1 / 9, np.float32))
        blur = [{"kernels": {"path": str(kernel)}}]
        specs.append(SetSpec(f"sharp:{photos}", "set", blur=blur, count=2))
    first, second = specs
    with pytest.raises(KeyboardInterrupt):
        evaluate([restorer], [open_set(first)], folder=out, report=interrupted)
    with pytest.raises(EvaluationError, match="unfinished evaluation of other"):
        evaluate([restorer], [open_set(second)], folder=out)
    (fresh,) = evaluate([restorer], [open_set(second)]).results
    (replaced,) = evaluate([restorer], [open_set(second)], folder=out, overwrite=True).results
    assert [r["psnr_input"] for r in replaced.rows] == [r["psnr_input"] for r in fresh.rows]


def test_means_over_fewer_images_win_nothing(known: Path, tmp_path: Path) -> None:
    """A model that failed on all but its easiest image is neither best nor on the Pareto plot."""
    parts = [tmp_path / "all", tmp_path / "easy"]
    for index in range(6):
        name = f"train/{'ab'[index % 2]}/{index}.png"
        with Image.open(known / "train" / "blur" / name.removeprefix("train/")) as image:
            for part in parts if index == 1 else parts[:1]:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                image.save(part / name)
    out = tmp_path / "out"
    result = unblur(
        "evaluate", "--restored", parts[0], "--restored", f"fewer={parts[1]}",
        "--data", f"pairs=flat:{known}", "--metrics", "psnr", "-o", out,
    )  # fmt: skip
    assert result.exit_code == 1
    whole, fewer = json.loads((out / "metrics.json").read_text())["results"]
    assert (whole["data"], fewer["model"], fewer["mean"]["count"]) == ("pairs", "fewer", 1)
    assert fewer["mean"]["psnr"] > whole["mean"]["psnr"]
    assert "on 1 of 6 images" in result.output
    assert f"input {whole['mean']['psnr_input']:.2f} dB" in result.output
    report = (out / "report.html").read_text()
    assert 'class="best"' not in report
    assert "on 1</small>" in report


def test_restored_folders_must_be_unambiguous(known: Path, tmp_path: Path) -> None:
    data = [open_set(SetSpec(f"flat:{known}"))]
    for name in ("x.png", "x.webp"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(EvaluationError, match="which is it"):
        evaluate([ModelSpec(str(tmp_path), restored=True)], data)


def test_what_a_python_model_gets_wrong_costs_an_image(known: Path) -> None:
    def wrong(image: np.ndarray) -> np.ndarray:
        if image.mean() > 0.5:
            raise RuntimeError("too bright")
        return np.where(image == image.max(), np.nan, image)

    (result,) = evaluate(
        [FunctionRestorer(wrong, "wrong")], [open_set(SetSpec(f"flat:{known}"))]
    ).results
    assert (len(result.failed), result.mean["count"]) == (6, 0)
    assert "no numbers" in " ".join(row["error"] for row in result.failed)


def test_names_that_are_not_utf8(tmp_path: Path, scene: np.ndarray) -> None:
    try:
        odd = tmp_path / os.fsdecode(b"\xe9t\xe9")
        odd.mkdir()
        Image.fromarray(scene[:64, :64]).save(odd / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    result = unblur(
        *("evaluate", "--model", "unsharp", "--data", f"sharp:{odd}"),
        *("--blur", "gaussian:sigma=1", "--metrics", "psnr", "-o", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "metrics.csv").is_file()


def test_file_names_differ_where_texts_do() -> None:
    long = "sharp:/some/long/path/of/a/user/with/many/folders/and/photos/of/last/summer/blur sigma="
    texts = [f"{long}1", f"{long}2", "a/b", "a-b", "", "?"]
    assert len({file_name(text) for text in texts}) == len(texts)
    assert file_name("small") == "small"
