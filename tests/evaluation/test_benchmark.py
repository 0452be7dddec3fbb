"""The benchmark: candidates, turns, what is written, what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from unblur.cli import app
from unblur.cli.benchmark import _print
from unblur.evaluation import ModelSpec, in_runtimes
from unblur.evaluation.benchmark import Benchmark, Candidate, Measured
from unblur.inference.runtimes import installed_runtimes
from unblur.training import read_recipe, train


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_models_networks_and_runtimes_side_by_side(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "benchmark", "--model", "small", "--network", "unet16:width=4", "--megapixels", 0.05,
        "--rounds", 2, "--threads", 1, "--data", f"sharp:{photos}", "--blur", "gaussian:sigma=2",
        "--count", 2, "-o", out,
    ]  # fmt: skip
    result = unblur(*command)
    assert result.exit_code == 0, result.output
    written = json.loads((out / "benchmark.json").read_text())
    rows = {row["model"]: row for row in written["results"]}
    runtimes = installed_runtimes()
    assert {"onnxruntime", "openvino", "torch"} <= set(runtimes)
    names = {f"{name}, {each}" for name in ("small", "unet16:width=4") for each in runtimes}
    assert set(rows) == names - {"small, torch"}
    times = [row["seconds_per_megapixel"] for row in written["results"]]
    assert times == sorted(times)
    assert written["results"][0]["ratio"] == 1
    assert abs(written["megapixels"] - 0.05) < 0.005
    assert (
        rows["unet16:width=4, torch"]["parameters"]
        == rows["unet16:width=4, openvino"]["parameters"]
    )
    for name, row in rows.items():
        assert 30 < row["peak_mib"] < 3000
        # Random weights have no quality; the same model has the same in both runtimes.
        assert (row["gain"] is None) == name.startswith("unet16")
    for name in names & {"small, openvino", "small, openvino-bf16"}:
        assert abs(rows["small, onnxruntime"]["gain"] - rows[name]["gain"]) < 0.01
    with (out / "benchmark.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    with Image.open(out / "pareto.png") as picture:
        assert np.asarray(picture).std() > 1
    again = unblur(*command)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


def test_only_means_over_the_same_sets_are_compared() -> None:
    def measured(name: str, gain: dict[str, float]) -> Measured:
        return Measured(Candidate(ModelSpec("small", name=name)), 1, seconds=[1.0], gain=gain)

    both, one, none = measured("both", {"x": 1, "y": 3}), measured("one", {"x": 5}), {}
    table = Benchmark(1.0, [both, one, measured("none", none)]).table()
    assert [row["gain"] for row in table] == [2, None, None]


def test_long_names_leave_room_for_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"unshuffle_unet:hidden={[16] * 40}".replace(" ", "")
    _print(Benchmark(2.0, [Measured(Candidate(ModelSpec("small", name=name)), 1, seconds=[0.25])]))
    assert "0.125" in capsys.readouterr().out


def test_checkpoints_run_in_torch_alone(
    recipe_file: Callable[..., Path],
) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    weights = str(folder / "checkpoints" / "last.safetensors")
    found = in_runtimes([ModelSpec("small"), ModelSpec(weights, name="own")], ["openvino", "torch"])
    assert [each.label for each in found] == ["small, openvino", "own, torch"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    cases = {
        ("--network", "unet17"): "unet16",
        ("--network", "unet16:wide=4"): "wide",
        ("--network", "unshuffle_unet:widths=[4,8],encoder_blocks=[1,1],depth=2"): "depth",
        ("--model", "smal"): "small",
        ("--runtime", "torch", "--model", "small"): "none of the models",
        ("--runtime", "onix"): "onnxruntime",
        ("--output", str(tmp_path / "file" / "out")): "cannot be made",
    }
    (tmp_path / "file").touch()
    for arguments, expected in cases.items():
        result = unblur("benchmark", *arguments, "--megapixels", 0.02, "--rounds", 1)
        assert result.exit_code != 0, arguments
        assert expected in result.output, (arguments, result.output)
