"""Killed runs go on exactly: same losses, same weights, damaged checkpoints fall back."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from unblur.cli import app
from unblur.models.checkpoint import read_training
from unblur.registry import ConfigError
from unblur.training import TrainingError, read_recipe, read_run, train
from unblur.training.checkpoints import is_whole, newest_whole
from unblur.training.config import NetworkConfig
from unblur.training.reports import read_metrics

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def numbers(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's metrics without what depends on the clock."""
    rows = read_metrics(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows]


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def only_run(output: Path) -> Path:
    (folder,) = (path for path in output.glob("*/*") if path.is_dir())
    return folder


def assert_same(first: Path, second: Path) -> None:
    assert numbers(first) == numbers(second)
    weights = [load_file(f / "checkpoints/last.safetensors") for f in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


VARIANTS = {
    "plain": {"trainer": {"max_epochs": 4, "log_every": 1, "accelerator": "cpu"}},
    "ema, accumulation, stages, workers": {
        "data": {
            "workers": 1,
            "stages": [{"since": 0.5, "crop": 48, "batch_size": 1}],
        },
        "trainer": {
            "max_epochs": 4, "log_every": 1, "accelerator": "cpu", "ema": 0.9, "accumulate": 2,
            "early_stopping": 9, "gradient_clip": 1.0,
        },
    },
    "plateau": {
        "schedule": {"name": "plateau", "patience": 0},
        "optimizer": {"name": "rmsprop", "lr": 1e-2},
    },
    "adversarial": {
        "network": {"name": "rednet30", "options": {"variant": "wgan"}},
        "adversarial": {"critic_steps": 2},
        "losses": {"logcosh": 1.0},
        "trainer": {"max_epochs": 2, "log_every": 1, "accelerator": "cpu"},
    },
}  # fmt: skip


QUICK = "ema, accumulation, stages, workers"  # covers most of the others, half a minute each


@pytest.mark.parametrize(
    "variant", [n if n == QUICK else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS]
)
def test_killed_at_any_moment(
    variant: str, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe_file(**VARIANTS[variant])
    often = ["--trainer.checkpoint_seconds", "0"]

    def command(output: str, *more: str) -> list[str]:
        return [*UNBLUR, "train", str(path), "--output", str(tmp_path / output), *often, *more]

    subprocess.run(command("whole"), check=True, capture_output=True, env=ENVIRONMENT)
    whole = only_run(tmp_path / "whole")
    steps = max(row["step"] for row in numbers(whole))
    moments = random.Random(variant)
    killed: Path | None = None
    for kill in range(1, 3):
        more = ["--resume"] if killed else []
        process = subprocess.Popen(
            command("killed", *more), env=ENVIRONMENT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wanted = kill * steps / 3 + moments.random() * steps / 6
        while process.poll() is None:
            found = list((tmp_path / "killed").glob("*/*/checkpoints/*.ckpt"))
            if any(int(p.stem.split("-")[1]) >= wanted for p in found):
                time.sleep(moments.random() * 0.05)
                break
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed = only_run(tmp_path / "killed")
        assert newest_whole(killed / "checkpoints")[0] is not None
    result = subprocess.run(command("killed", "--resume"), capture_output=True, env=ENVIRONMENT)
    finished = b"has finished" in result.stderr  # killed after its last step, before the summary
    assert result.returncode == 0 or finished, result.stderr.decode()
    assert killed is not None
    if not finished:
        assert_same(whole, killed)
        assert all("." not in row["step"] + row["epoch"] for row in csv_rows(killed))
        assert (killed / "summary.json").is_file()


def test_a_damaged_checkpoint_falls_back(
    recipe_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = read_recipe(recipe_file(), ["--trainer.max_epochs", "2"])
    folder = train(recipe)
    newest, damaged = newest_whole(folder / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000012.ckpt"
    assert not damaged
    newest.write_bytes(newest.read_bytes()[:-100])
    assert not is_whole(newest)
    train(read_run(folder, ["--trainer.max_epochs", "3"]), folder)
    assert "step-00000012.ckpt is damaged" in capsys.readouterr().err
    assert max(row["step"] for row in numbers(folder)) == 18
    # The damaged one does not count among the two that are kept.
    kept = sorted(path.name for path in (folder / "checkpoints").glob("*.ckpt"))
    assert len(kept) == 2
    assert all(is_whole(folder / "checkpoints" / name) for name in kept)
    for path in (folder / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint to go on from"):
        train(read_run(folder, ["--trainer.max_epochs", "4"]), folder)


def test_what_cannot_be_resumed(recipe_file: Callable[..., Path]) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    with pytest.raises(TrainingError, match="has finished"):
        train(read_run(folder, []), folder)
    longer = read_run(folder, ["--trainer.max_epochs", "2"])
    other = replace(longer, network=NetworkConfig("rednet30"))
    with pytest.raises(TrainingError, match="holds a unet16, the recipe has a rednet30"):
        train(other, folder)
    wider = replace(longer, network=NetworkConfig("unet16", {"width": 8}))
    with pytest.raises((TrainingError, RuntimeError), match=r"other networks|size mismatch"):
        train(wider, folder)


@pytest.mark.parametrize(
    "settings",
    [
        ["--schedule.name", "plateau", "--schedule.patience", "1", "--optimizer.lr", "1e-9"],
        ["--trainer.early_stopping", "3", "--optimizer.lr", "1e-9", "--schedule.name", "constant"],
        ["--schedule.name", "constant"],
    ],
)
def test_in_stages_of_whole_epochs(
    settings: list[str], recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    whole = train(
        read_recipe(recipe_file(), [*settings, "--trainer.max_epochs", "7", "--name", "whole"])
    )
    part = train(read_recipe(recipe_file(), [*settings, "--trainer.max_epochs", "2"]))
    for epochs in ("3", "5", "7"):
        try:
            train(read_run(part, ["--trainer.max_epochs", epochs]), part)
        except TrainingError as error:
            assert "has finished" in str(error)  # noqa: PT017  (stopped early)
    # One that stopped early goes on when it is asked to.
    assert numbers(whole) == numbers(part)[: len(numbers(whole))]
    assert len(numbers(part)) >= len(numbers(whole))


def test_in_stages_of_steps(recipe_file: Callable[..., Path]) -> None:
    constant = ["--schedule.name", "constant"]
    whole = train(read_recipe(recipe_file(), [*constant, "--name", "whole"]))
    part = train(read_recipe(recipe_file(), [*constant, "--trainer.max_steps", "3"]))
    for steps in ("10", "24"):
        train(read_run(part, ["--trainer.max_steps", steps]), part)
    # Each stop was validated; besides, nothing differs.
    between = [row for row in numbers(part) if row["step"] in (3, 10) and "val/psnr" in row]
    assert len(between) == 2
    assert [row for row in numbers(part) if row not in between] == numbers(whole)
    weights = [load_file(f / "checkpoints/last.safetensors") for f in (whole, part)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    "settings", [["--trainer.max_steps", "2"], ["--trainer.validate_every", "3"]]
)
def test_the_last_weights_are_validated(
    settings: list[str], recipe_file: Callable[..., Path]
) -> None:
    folder = train(read_recipe(recipe_file(), [*settings, "--trainer.max_epochs", "4"]))
    last = numbers(folder)[-1]
    assert "val/psnr" in last
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == last["step"]
    best = read_training(folder / "checkpoints/best.safetensors")
    assert best["val_psnr"] == summary["best_psnr"]
    # What was validated after the last checkpoint is not forgotten when the run goes on.
    train(read_run(folder, ["--trainer.max_epochs", "5", "--trainer.max_steps", "30"]), folder)
    assert read_training(folder / "checkpoints/best.safetensors")["val_psnr"] >= best["val_psnr"]


def test_a_cycle_can_be_prolonged(recipe_file: Callable[..., Path]) -> None:
    cycle = ["--schedule.name", "one_cycle", "--trainer.log_every", "1"]
    part = train(read_recipe(recipe_file(), [*cycle, "--trainer.max_epochs", "1"]))
    train(read_run(part, ["--trainer.max_epochs", "2"]), part)
    assert max(row["step"] for row in numbers(part)) == 12


def test_data_that_changed_is_not_split_anew(
    recipe_file: Callable[..., Path], photos: Path
) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    split = (folder / "split.json").read_bytes()
    added = photos / "added.png"
    added.write_bytes((photos / "p0.png").read_bytes())
    with pytest.raises(TrainingError, match="its data has changed since it began"):
        train(read_run(folder, ["--trainer.max_epochs", "2"]), folder)
    assert (folder / "split.json").read_bytes() == split
    added.unlink()
    train(read_run(folder, ["--trainer.max_epochs", "2"]), folder)


def test_within_an_epoch_batches_may_become_others(recipe_file: Callable[..., Path]) -> None:
    # Stopped after 5 of 6 batches of one sample; with four epochs they are still of two.
    path = recipe_file(
        data={"epoch_length": 6, "stages": [{"since": 0.5, "crop": 48, "batch_size": 1}]},
        trainer={"max_epochs": 2, "max_steps": 3 + 5, "accumulate": 1},
    )
    folder = train(read_recipe(path))
    train(read_run(folder, ["--trainer.max_epochs", "4", "--trainer.max_steps", "99"]), folder)
    steps = {row["epoch"]: row["step"] for row in numbers(folder) if "val/psnr" in row}
    # Two of its three batches of two were seen (the fifth sample again), one was left.
    assert steps[1] == 3 + 5 + 1
    assert steps[2] == steps[1] + 6
    assert max(steps.values()) == steps[1] + 12


def test_time_that_is_up_between_two_steps(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(
        data={"epoch_length": 100_000},
        trainer={"max_epochs": 1, "max_minutes": 0.02, "accumulate": 7, "log_every": 999},
    )
    folder = train(read_recipe(path))
    checkpoint, damaged = newest_whole(folder / "checkpoints")
    assert checkpoint is not None
    assert not damaged
    content = torch.load(checkpoint, weights_only=True)
    assert content["progress"][1] == 7 * content["optimizer_steps"]
    assert (
        read_training(folder / "checkpoints/last.safetensors")["steps"]
        == (content["optimizer_steps"])
    )
    with pytest.raises(TrainingError, match=r"raise trainer\.max_epochs, max_steps"):
        train(read_run(folder, []), folder)
    (kept,) = (s for name, s in content["callbacks"].items() if name.startswith("Checkpoints"))
    assert kept["seconds"] >= 60 * 0.02
    began = time.monotonic()
    train(read_run(folder, ["--trainer.max_minutes", "0.03"]), folder)
    seconds = json.loads((folder / "summary.json").read_text())["seconds"]
    assert kept["seconds"] + 60 * 0.01 <= seconds + 0.1
    assert seconds <= kept["seconds"] + time.monotonic() - began + 0.1


def test_what_may_not_change(recipe_file: Callable[..., Path]) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    with pytest.raises(ConfigError, match=r"--optimizer\.lr was 0.002 and cannot be changed"):
        read_run(folder, ["--trainer.max_epochs", "2", "--optimizer.lr", "1"])
    with pytest.raises(TrainingError, match=r"began without trainer\.ema"):
        train(read_run(folder, ["--trainer.max_epochs", "2", "--trainer.ema", "0.9"]), folder)
    begun = read_run(folder, [])
    same = ["--optimizer.lr", str(begun.optimizer.lr), "--trainer.max_epochs", "2"]
    assert read_run(folder, same).trainer.max_epochs == 2


def test_runs_are_told_apart(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe_file()
    folder = train(read_recipe(path, ["--trainer.max_steps", "1"]))
    more = ["--resume", "--trainer.max_epochs", "2", "--trainer.max_steps", "2"]

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["train", *words])
        return result.exit_code, result.output

    code, output = run("--run", str(folder), *more)
    assert code == 0, output
    assert f"run: {folder}" in output
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text(encoding="utf-8") + "\nname: other\n", encoding="utf-8")
    code, output = run(str(other), "--run", str(folder), *more)
    assert code == 1
    assert "is a run of" in output
    code, output = run(str(path), str(other))
    assert code == 2
    assert "one recipe at a time" in output
    code, output = run(str(path), "--quick", "--resume", "--output", str(folder.parents[1]))
    assert code == 1
    assert "without --quick are in" in output


def test_prolonged_in_stages_the_schedule_ends_with_the_training(
    recipe_file: Callable[..., Path],
) -> None:
    # Stages begin later in a longer training: it makes other steps than the plan of either length.
    path = recipe_file(
        data={"stages": [{"since": 0.5, "crop": 16, "batch_size": 1}]},
        schedule={"name": "one_cycle"},
        trainer={"max_epochs": 2},
    )
    folder = train(read_recipe(path))
    train(read_run(folder, ["--trainer.max_epochs", "4"]), folder)
    rows = numbers(folder)
    assert rows[-1]["step"] == 6 + 12 + 12 + 12
    assert rows[-1]["lr"] == pytest.approx(1e-5, rel=0.6)


def test_with_more_batches_to_a_step_it_goes_on(recipe_file: Callable[..., Path]) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_steps", "16"]))
    more = ["--trainer.max_steps", "null", "--trainer.accumulate", "3"]
    train(read_run(folder, more), folder)
    rows = numbers(folder)
    # 16 of 24 batches were seen: 3 in the third epoch and 6 in the last are left; the 16th again.
    assert rows[-1]["step"] == 16 + 1 + 2
    assert rows[-1]["lr"] == pytest.approx(1e-5, rel=0.5)


def test_what_is_refused_is_not_remembered(recipe_file: Callable[..., Path]) -> None:
    folder = train(read_recipe(recipe_file(), ["--trainer.max_epochs", "1"]))
    with pytest.raises(TrainingError, match=r"began without trainer\.ema"):
        train(read_run(folder, ["--trainer.max_epochs", "2", "--trainer.ema", "0.9"]), folder)
    train(read_run(folder, ["--trainer.max_epochs", "2"]), folder)
    assert numbers(folder)[-1]["step"] == 12
