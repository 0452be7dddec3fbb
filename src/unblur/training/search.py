"""Many trainings of one recipe: searches for better settings, and studies over seeds."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from unblur.data import DataError, Samples, leak_of, read_split
from unblur.files import atomic_path, make_folder, write_json, write_table
from unblur.models import RestorationModel
from unblur.models.checkpoint import load_checkpoint, read_training
from unblur.registry import ConfigError, unknown
from unblur.training.config import Recipe
from unblur.training.data import RestorationData
from unblur.training.errors import TrainingError
from unblur.training.recipe import overridden, settings_of
from unblur.training.reports import Row
from unblur.training.restoration import psnr_means, psnr_sums
from unblur.training.run import SUMMARY_FILE, plan_training, read_run, train
from unblur.yaml_files import read_yaml

_SAMPLERS = ("tpe", "random", "grid")
# Settings that make no difference to what a trial comes to.
_NO_MATTER = ("output", "tensorboard", "wandb", "data.root", "data.workers", "data.cache")
# A trial that failed counts: its settings did not work.
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Space:
    """What a search varies.

    phases: one or more sets of parameters, searched one after the other, each with the best
        values of those before. A parameter is a setting's name, such as optimizer.lr, with a list
        of values, or {low, high} or {log: [low, high]}.
    """

    phases: tuple[dict[str, Any], ...]
    sampler: str = "tpe"
    pruning: bool = True


def read_space(path: Path) -> Space:
    """A search space from a YAML file. Raises ConfigError."""
    values = read_yaml(path, ConfigError)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: is no search space")
    keys = {"parameters", "phases", "sampler", "pruning"}
    for key in values:
        if key not in keys:
            raise ConfigError(f"{path}: {unknown('key', str(key), keys)}")
    phases = values.get("phases") or [values.get("parameters")]
    if not isinstance(phases, list) or not all(isinstance(p, dict) and p for p in phases):
        raise ConfigError(f"{path}: needs parameters: {{setting: values}}, or a list of phases")
    sampler = values.get("sampler", "tpe")
    if sampler not in _SAMPLERS:
        raise ConfigError(f"{path}: {unknown('sampler', str(sampler), _SAMPLERS)}")
    for phase in phases:
        for name, choice in phase.items():
            if sampler == "grid" and not isinstance(choice, list):
                raise ConfigError(f"{path}: {name}: a grid needs lists of values")
            _check_choice(path, name, choice)
    return Space(tuple(phases), sampler, bool(values.get("pruning", True)))


def _check_choice(path: Path, name: str, choice: object) -> None:
    match choice:
        case [_, *_]:
            return
        case {"low": int() | float() as low, "high": int() | float() as high, **more}:
            if low < high and not more:
                return
        case {"log": [int() | float() as low, int() | float() as high], **more}:
            if 0 < low < high and not more:
                return
    raise ConfigError(
        f"{path}: {name}: expected a list of values, or {{low: a, high: b}} or {{log: [a, b]}} "
        "with a < b"
    )


def search(
    recipe: Recipe, space: Space, *, trials: int, jobs: int = 1, storage: str | None = None
) -> Path:
    """Train a recipe with many settings; returns the folder with the results.

    trials: of each phase, those of earlier calls counted in. jobs: processes that train at a time.
    storage: an RDB URL that several machines may share; a SQLite file in the folder by default.
    """
    for phase in space.phases:  # what is wrong with recipe or space is said before any trial
        plan_training(overridden(recipe, {name: _first(each) for name, each in phase.items()}))
    folder = Path(recipe.output).expanduser() / f"{recipe.name}-search"
    make_folder(folder, ConfigError)
    url = storage or f"sqlite:///{(folder / 'study.db').absolute()}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best: dict[str, Any] = {}
    for number, phase in enumerate(space.phases, 1):
        wanted = trials
        if space.sampler == "grid":
            wanted = min(trials, math.prod(len(values) for values in phase.values()))
        study = _study(recipe, space, number, url, best)
        _run_trials(recipe, space, number, url, wanted, jobs, best)
        finished = study.get_trials(states=(TrialState.COMPLETE,))
        if not finished:
            raise TrainingError(f"no trial of phase {number} has finished")
        best |= {key: _value(phase[key], value) for key, value in study.best_trial.params.items()}
        _report(study, folder, number, phase)
    write_json(folder / "best.json", best)
    return folder


def _first(choice: Any) -> Any:
    """Some value of a choice."""
    if isinstance(choice, list):
        return choice[0]
    return choice["log"][0] if "log" in choice else choice["low"]


def _study(
    recipe: Recipe, space: Space, number: int, url: str, fixed: dict[str, Any]
) -> optuna.Study:
    """The study of a phase, of its own for each best of the phases before."""
    phase = space.phases[number - 1]
    sampler: BaseSampler
    match space.sampler:
        case "grid":
            sampler = GridSampler({key: list(range(len(v))) for key, v in phase.items()}, seed=0)
        case "random":
            sampler = RandomSampler()
        case _:
            sampler = TPESampler()
    pruner = optuna.pruners.MedianPruner(3, 2) if space.pruning else optuna.pruners.NopPruner()
    name = f"{recipe.name}-{number}"
    if fixed:
        name += "-" + hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]
    try:
        study = optuna.create_study(
            study_name=name, storage=url, sampler=sampler, pruner=pruner, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
    except (ImportError, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--storage {url}: cannot be used ({reason})") from error
    settings = settings_of(recipe)
    searched = {
        "phase": phase,
        "fixed": fixed,
        "recipe": {key: settings[key] for key in sorted(settings) if key not in _NO_MATTER},
    }
    for what, now in searched.items():
        before = study.user_attrs.get(what)
        if before is None:
            study.set_user_attr(what, now)
        elif before != json.loads(json.dumps(now)):
            raise ConfigError(
                f"the study {name} in {url} has searched {_difference(before, now)}; another "
                "search needs another --name or --output"
            )
    return study


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = sorted(before.keys() | now.keys())
    changed = [key for key in names if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key)}" for key in changed[:3])


def _run_trials(
    recipe: Recipe, space: Space, number: int, url: str, trials: int, jobs: int,
    fixed: dict[str, Any],
) -> None:  # fmt: skip
    if jobs == 1:
        _work(recipe, space, number, url, trials, fixed)
        return
    study = _study(recipe, space, number, url, fixed)
    left = trials - len(study.get_trials(deepcopy=False, states=_COUNTED))
    context = multiprocessing.get_context("spawn")
    shares = [left // jobs + (job < left % jobs) for job in range(jobs)]
    workers = [
        context.Process(target=_work, args=(recipe, space, number, url, trials, fixed, share))
        for share in shares
        if share > 0
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if workers and all(worker.exitcode for worker in workers):
        raise TrainingError("all processes of the search failed; what they printed says why")


def _work(
    recipe: Recipe, space: Space, number: int, url: str, trials: int, fixed: dict[str, Any],
    share: int | None = None,
) -> None:  # fmt: skip
    """Take trials from the study until it has enough; at most `share` of them here."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    phase = space.phases[number - 1]
    study = _study(recipe, space, number, url, fixed)

    def objective(trial: optuna.Trial) -> float:
        chosen = {name: _suggest(trial, name, choice) for name, choice in phase.items()}
        variant = overridden(replace(recipe, name=f"{recipe.name}-search/trials"), fixed | chosen)

        def listen(row: Row) -> None:
            if "val/psnr" in row:
                trial.report(row["val/psnr"], int(row["epoch"]))
                if trial.should_prune():
                    raise optuna.TrialPruned

        folder = train(variant, listeners=[listen])
        trial.set_user_attr("folder", str(folder))
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        trial.set_user_attr("psnr_input", summary["psnr_input"])
        if summary["best_psnr"] is None:
            raise TrainingError("the training ended before its first validation")
        return float(summary["best_psnr"])

    def enough(study: optuna.Study, _: Any) -> None:
        if len(study.get_trials(deepcopy=False, states=_COUNTED)) >= trials:
            study.stop()

    if len(study.get_trials(deepcopy=False, states=_COUNTED)) < trials:
        study.optimize(
            objective,
            n_trials=share,
            callbacks=[enough],
            catch=(TrainingError, DataError, ConfigError, RuntimeError),
        )


def _suggest(trial: optuna.Trial, name: str, choice: Any) -> Any:
    if isinstance(choice, list):
        # By its place in the list, as values may be lists and mappings.
        return choice[trial.suggest_categorical(name, list(range(len(choice))))]
    if "log" in choice:
        low, high = choice["log"]
        return trial.suggest_float(name, low, high, log=True)
    low, high = choice["low"], choice["high"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high)


def _value(choice: Any, drawn: Any) -> Any:
    """What was tried: of a list, a trial remembers the place only."""
    return choice[drawn] if isinstance(choice, list) else drawn


def _report(study: optuna.Study, folder: Path, number: int, phase: dict[str, Any]) -> None:
    """trials-N.csv, and pictures of what mattered."""
    rows = []
    names = sorted({name for trial in study.trials for name in trial.params})
    for trial in sorted(study.trials, key=lambda t: -(t.value or 0)):
        seconds = trial.duration.total_seconds() if trial.duration else None
        row = {"trial": trial.number, "state": trial.state.name.lower(), "psnr": trial.value}
        row |= {n: _value(phase.get(n), trial.params[n]) for n in names if n in trial.params}
        row |= {"seconds": seconds, "folder": trial.user_attrs.get("folder")}
        rows.append(row)
    write_table(folder / f"trials-{number}.csv", rows)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as plots

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name, plot in (
        ("importance", plots.plot_param_importances),
        ("parallel", plots.plot_parallel_coordinate),
        ("history", plots.plot_optimization_history),
    ):
        try:
            axes = plot(study)
        except (ValueError, RuntimeError) as error:
            # Importances need several trials with different results.
            print(f"no plot of {name}: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        with atomic_path(folder / f"{name}-{number}.png") as temporary:
            plt.figure(axes.figure.number)  # type: ignore[union-attr]
            plt.savefig(temporary, format="png", dpi=110, bbox_inches="tight")
        plt.close("all")


def seed_study(recipe: Recipe, seeds: Sequence[int]) -> Path:
    """Train a recipe once for each seed of split and weights, and try each on all validations.

    Returns the folder with cross.csv and cross.md, where PSNR is marked with what of a validation
    the model has seen in training. Called again, it goes on with the seeds that are not finished.
    """
    if len(set(seeds)) < 2:
        raise ConfigError("a study over seeds needs at least two different ones")
    if recipe.data.val is not None or recipe.data.split.kind == "none" or recipe.data.split.file:
        raise ConfigError("a study over seeds needs a split by seed, not data.val or a split file")
    base = Path(recipe.output).expanduser() / f"{recipe.name}-seeds"
    folders = {}
    for seed in seeds:
        variant = replace(_seeded(recipe, seed), name=f"{recipe.name}-seeds/seed-{seed}")
        finished = [
            path.parent
            for path in sorted((base / f"seed-{seed}").glob(f"*/{SUMMARY_FILE}"))
            if read_run(path.parent, []) == variant
        ]
        folders[seed] = finished[-1] if finished else train(variant)
    rows = []
    for judge, judged in folders.items():
        samples = _validation(recipe, judge)
        split = read_split(judged / "split.json")
        for seed, folder in folders.items():
            best = folder / "checkpoints" / "best.safetensors"
            # Also of what the weights that it began with had seen; None if that is unknown.
            seen = read_training(best)["trained_on"]
            leak = None if seen is None else leak_of(split.val, seen)
            after, before = _psnr(best, samples)
            rows.append({
                "model": seed, "validation": judge, "psnr_input": before, "psnr": after,
                "gain": after - before, "images": len(samples),
                "leaked_sequences": None if leak is None else len(leak.sequences),
                "leaked_images": None if leak is None else leak.images,
                "val_sequences": len(split.val),
            })  # fmt: skip
    _write_cross(base, rows)
    return base


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    split = replace(recipe.data.split, seed=seed)
    return replace(recipe, seed=seed, data=replace(recipe.data, split=split))


def _validation(recipe: Recipe, seed: int) -> Samples:
    plan = plan_training(_seeded(recipe, seed))
    data = RestorationData(
        plan.recipe.data, plan.pairs, seed=seed, epochs=1, value_range=plan.value_range
    )
    return data.val_samples


def _psnr(weights: Path, samples: Samples) -> tuple[float, float]:
    """Mean PSNR of restored and of blurred samples."""
    _, _, network = load_checkpoint(weights)
    assert isinstance(network, RestorationModel)  # noqa: S101  (it was trained here)
    low, high = network.value_range
    sums = torch.zeros(6)
    for sample in samples:
        blurred, sharp = (
            torch.from_numpy(image)[None] for image in (sample["blurred"], sample["sharp"])
        )
        with torch.no_grad():
            restored = network(blurred)
        restored, blurred, sharp = ((i - low) / (high - low) for i in (restored, blurred, sharp))
        sums += psnr_sums(restored, blurred, sharp)
    return psnr_means(sums)


def _write_cross(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_table(folder / "cross.csv", rows)
    lines = [
        "| trained with seed | validation of seed | input dB | restored dB | seen in training |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        seen = "unknown" if row["leaked_images"] is None else "–"
        if row["leaked_images"]:
            seen = (
                f"LEAK: {row['leaked_sequences']} of {row['val_sequences']} sequences, "
                f"{row['leaked_images']} images"
            )
        lines.append(
            f"| {row['model']} | {row['validation']} | {row['psnr_input']:.2f} "
            f"| {row['psnr']:.2f} | {seen} |"
        )
    with atomic_path(folder / "cross.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
