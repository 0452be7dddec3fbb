"""Searches and seed studies: they find, they resume, they mark leaks, they share a study."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from unblur.cli import app
from unblur.registry import ConfigError
from unblur.training import read_recipe, read_run, train
from unblur.training.search import read_space

SHORT = ["--trainer.max_epochs", "2", "--data.epoch_length", "4", "--trainer.pictures", "0"]


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_grid_in_two_phases(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        yaml.safe_dump(
            {
                "sampler": "grid",
                "pruning": False,
                "phases": [
                    {"losses": [{"l1": 1.0}, {"mse": 1.0}], "optimizer.name": ["adam", "rmsprop"]},
                    {"optimizer.lr": [1e-5, 1.0]},
                ],
            }
        )
    )
    result = unblur("search", recipe_file(), "--space", space, "--trials", 4, *SHORT)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "experiments" / "tiny-search"
    rows = table(folder / "trials-1.csv")
    assert len(rows) == 4
    assert {(row["losses"], row["optimizer.name"]) for row in rows} == {
        (losses, name) for losses in ("{'l1': 1.0}", "{'mse': 1.0}") for name in ("adam", "rmsprop")
    }
    best = json.loads((folder / "best.json").read_text())
    assert set(best) == {"losses", "optimizer.name", "optimizer.lr"}
    assert best["optimizer.lr"] == 1e-5  # the other ruins any network
    assert float(rows[0]["psnr"]) >= float(rows[-1]["psnr"])
    for name in ("parallel-1.png", "history-2.png", "importance-1.png"):
        assert (folder / name).stat().st_size > 1000
    # Called again, nothing is trained again.
    before = sorted((folder / "trials").iterdir())
    again = unblur("search", recipe_file(), "--space", space, "--trials", 4, *SHORT)
    assert again.exit_code == 0, again.output
    assert sorted((folder / "trials").iterdir()) == before
    longer = unblur("search", recipe_file(), "--space", space, *SHORT, "--data.crop", 24)
    assert longer.exit_code != 0
    assert "has searched data.crop 32" in longer.output
    space.write_text("{sampler: grid, parameters: {optimizer.lr: [1.0e-3]}}")
    other = unblur("search", recipe_file(), "--space", space, *SHORT)
    assert other.exit_code != 0
    assert "has searched" in other.output


def test_a_new_best_has_phases_of_its_own_after_it(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    phases = [{"optimizer.lr": [1.0, 1e-4]}, {"optimizer.weight_decay": [0.0, 0.1]}]
    space.write_text(yaml.safe_dump({"sampler": "grid", "pruning": False, "phases": phases}))
    folder = tmp_path / "experiments" / "tiny-search"
    bests = []
    for trials in (1, 2):
        result = unblur("search", recipe_file(), "--space", space, "--trials", trials, *SHORT)
        assert result.exit_code == 0, result.output
        bests.append(json.loads((folder / "best.json").read_text()))
        for row in table(folder / "trials-2.csv"):
            used = read_run(Path(row["folder"]), []).optimizer
            assert used.lr == bests[-1]["optimizer.lr"]
            assert used.weight_decay == float(row["optimizer.weight_decay"])
    assert bests[-1]["optimizer.lr"] == 1e-4


@pytest.mark.slow
def test_two_processes_share_a_study(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {optimizer.lr: {log: [1.0e-4, 1.0e-2]}}")
    result = unblur("search", recipe_file(), "--space", space, "--trials", 3, "--jobs", 2, *SHORT)
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "experiments" / "tiny-search" / "trials-1.csv")
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert len({row["folder"] for row in rows}) == len(rows)


def test_a_study_over_seeds_marks_leaks(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    result = unblur("search", recipe_file(), "--seeds", "1,2", *SHORT)
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "experiments" / "tiny-seeds" / "cross.csv")
    assert [(row["model"], row["validation"]) for row in rows] == [
        ("1", "1"), ("2", "1"), ("1", "2"), ("2", "2"),
    ]  # fmt: skip
    leaks = [int(row["leaked_images"]) for row in rows]
    assert leaks[0] == leaks[3] == 0
    assert leaks[1] > 0
    assert "LEAK" in result.output
    runs = sorted((tmp_path / "experiments" / "tiny-seeds").glob("seed-*/*"))
    assert len(runs) == 2
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert float(rows[0]["psnr"]) == pytest.approx(summary["best_psnr"], abs=0.01)
    assert unblur("search", recipe_file(), "--seeds", "1,2", *SHORT).exit_code == 0
    assert sorted((tmp_path / "experiments" / "tiny-seeds").glob("seed-*/*")) == runs
    # A run of another recipe does not count as finished.
    other = ["--optimizer.lr", "1e-4"]
    assert unblur("search", recipe_file(), "--seeds", "1,2", *SHORT, *other).exit_code == 0
    assert len(list((tmp_path / "experiments" / "tiny-seeds").glob("seed-*/*"))) == 4


def test_what_the_first_weights_have_seen_counts(
    recipe_file: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = train(read_recipe(recipe_file(), [*SHORT, "--name", "first"]))
    begun = ["--network.weights", str(first / "checkpoints" / "last.safetensors")]
    capfd.readouterr()
    result = unblur("search", recipe_file(), "--seeds", "1,2", *SHORT, *begun)
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "experiments" / "tiny-seeds" / "cross.csv")
    assert any(int(row["leaked_images"]) for row in rows if row["model"] == row["validation"])
    assert "were trained on" in result.stderr


def test_mistakes(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    for content, message in (
        ("- 1", "no search space"),
        ("parameters: {}", "needs parameters"),
        ("parameter: {a: [1]}", "unknown key 'parameter'"),
        ("{sampler: best, parameters: {a: [1]}}", "unknown sampler 'best'"),
        ("{sampler: grid, parameters: {a: {low: 1, high: 2}}}", "lists of values"),
        ("parameters: {a: 3}", "expected a list"),
        ("parameters: {a: {log: [0, 1]}}", "expected a list"),
        ("parameters: {a: {low: 1, high: 2, log: true}}", "expected a list"),
        ("parameters: {a: {low: 2, high: 1}}", "with a < b"),
        ("phases: 5", "needs parameters"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            read_space(path)
    assert unblur("search", recipe_file()).exit_code == 2
    assert unblur("search", recipe_file(), "--seeds", "a").exit_code == 2
    one = unblur("search", recipe_file(), "--seeds", "4")
    assert "at least two" in one.output
    path.write_text("parameters: {optimizer.rate: [1]}")
    wrong = unblur("search", recipe_file(), "--space", path, "--trials", 1)
    assert wrong.exit_code == 2
    assert "optimizer" in wrong.output
    path.write_text("parameters: {optimizer.lr: [0.1]}")
    for storage in ("nothing", "oracle3://host/name", f"sqlite:///{tmp_path}/no/where.db"):
        wrong = unblur("search", recipe_file(), "--space", path, "--storage", storage, *SHORT)
        assert wrong.exit_code == 2
        assert "cannot be used" in wrong.output


def test_what_no_trial_could_train_is_said_at_once(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    cases = (
        ({"optimizer.lr": [1e-3]}, ["--data.train", "sharp:absent"], "absent"),
        ({"network.options": [{"start_filters": 8}]}, [], "start_filters"),
        ({"optimizer.lr": [1e-3]}, ["--losses.unknown", "1"], "unknown"),
    )
    for phase, more, expected in cases:
        space.write_text(yaml.safe_dump({"phases": [phase]}))
        result = unblur("search", recipe_file(), "--space", space, "--trials", 1, *SHORT, *more)
        assert result.exit_code != 0
        assert expected in result.output
        assert "Traceback" not in result.output
        assert not list((tmp_path / "experiments").glob("*-search/trials/*"))
