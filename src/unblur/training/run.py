"""From a recipe to a finished run: its folder, the trainer, the summary."""

from __future__ import annotations

import logging
import math
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping

from unblur import __version__
from unblur.blur import BlurError
from unblur.data import DataError, leak_of, require_outside, write_split
from unblur.files import write_json
from unblur.hardware import processor
from unblur.inference.runtimes.base import out_of_memory
from unblur.models import RestorationModel
from unblur.models.analysis import count_parameters, summarize, training_feature_bytes
from unblur.models.hidden_channels import residual_blocks
from unblur.registry import ConfigError
from unblur.training.adversarial import AdversarialModule
from unblur.training.checkpoints import AtomicCheckpointIO, Checkpoints, newest_whole, set_aside
from unblur.training.config import Recipe
from unblur.training.data import Prepared, RestorationData, epoch_steps, prepare_pairs
from unblur.training.errors import TrainingError
from unblur.training.recipe import read_recipe, settings_of, write_recipe
from unblur.training.reports import Console, Curves, Metrics, Pictures, Row
from unblur.training.restoration import RestorationModule, build_network, trained_on_before
from unblur.training.revival import revive_silent_channels

_LOOKED_AT = 64  # training samples, to tell which channels are silent
_SHARED_FOLDER = "UNBLUR_RUN"  # the environment variable that tells processes of one run
_MAY_CHANGE = (
    *("trainer.", "data.workers", "data.cache", "data.root"),
    *("output", "tensorboard", "wandb"),
)
RECIPE_FILE, SUMMARY_FILE = "recipe.yaml", "summary.json"


@dataclass(frozen=True)
class Plan:
    """Everything that is known before a training begins.

    module: what Lightning trains. before: what the weights it begins with were trained on, None if
    that is unknown. batches: of each epoch, on one device.
    """

    recipe: Recipe
    module: RestorationModule
    before: list[str] | None
    pairs: Prepared
    ranks: int
    batches: list[int]

    @property
    def steps(self) -> int:
        """Of the optimizer in the whole training."""
        return self.module.steps

    @property
    def network(self) -> RestorationModel:
        return self.module.network

    @property
    def value_range(self) -> Any:
        return "unit" if self.network.value_range == (0.0, 1.0) else "symmetric"


def plan_training(recipe: Recipe, begins: bool = True) -> Plan:
    """Open the data and build what is trained. Raises ConfigError or DataError.

    begins: whether the weights that the recipe names are needed; a run that goes on has its own.
    """
    _check_numbers(recipe)
    pl.seed_everything(recipe.seed, verbose=False)
    begun_with = recipe.network.weights if begins else None
    network = build_network(replace(recipe.network, weights=begun_with))
    if recipe.network.revive:
        residual_blocks(network, "network.revive")  # raises where there are none
    before = trained_on_before(begun_with)
    pairs = prepare_pairs(recipe.data)
    ranks = _ranks(recipe)
    batches = epoch_steps(recipe.data, len(pairs.train), recipe.trainer.max_epochs, ranks)
    if recipe.adversarial is not None:
        if recipe.adversarial.critic_steps < 1:
            raise ConfigError("adversarial.critic_steps must be at least 1")
        if recipe.trainer.accumulate != 1 or recipe.schedule.name == "plateau":
            raise ConfigError("adversarial works without trainer.accumulate and schedule plateau")
    steps, epoch_ends = _steps(recipe, batches)
    kind = RestorationModule if recipe.adversarial is None else AdversarialModule
    module = kind(recipe, network, steps, epoch_ends)
    module.configure_optimizers()  # raises where there is no such optimizer or schedule
    return Plan(recipe, module, before, pairs, ranks, batches)


def _steps(
    recipe: Recipe, batches: list[int], epoch: int = 0, seen: int = 0, done: int = 0, rest: int = 0
) -> tuple[int, list[int]]:
    """Steps of the optimizer in the whole training, and at the end of each epoch.

    From `seen` batches of an epoch on, by when `done` steps were made: by another number of
    devices, batches to a step or epochs, perhaps. rest: batches since the last step.
    """
    if recipe.adversarial is None:
        to_a_step = recipe.trainer.accumulate
        each = [-(-count // to_a_step) for count in batches]  # what is left at the end is one, too
        steps = done + sum(each[epoch:]) - seen // to_a_step
    else:
        to_a_step = recipe.adversarial.critic_steps
        each = [max(1, count // to_a_step) for count in batches]
        steps = max(1, done + (rest + sum(batches[epoch:]) - seen) // to_a_step)
    if recipe.trainer.max_steps is not None:
        steps = min(steps, recipe.trainer.max_steps)
    ends = list(accumulate(each))
    before, planned = done - seen // to_a_step, ends[epoch - 1] if epoch else 0
    return steps, [
        end - planned + before if number >= epoch else round(end * before / planned)
        for number, end in enumerate(ends)
    ]


def _check_numbers(recipe: Recipe) -> None:
    """Raise ConfigError for numbers that no training can have."""
    data, settings, schedule = recipe.data, recipe.trainer, recipe.schedule
    smallest = {
        "seed": (recipe.seed, 0),
        "data.batch_size": (data.batch_size, 1),
        "data.workers": (data.workers, 0),
        "data.val_length": (data.val_length, 1),
        "data.epoch_length": (data.epoch_length, 1),
        "optimizer.weight_decay": (recipe.optimizer.weight_decay, 0),
        "optimizer.full_rate_inputs": (recipe.optimizer.full_rate_inputs, 1),
        "optimizer.momentum": (recipe.optimizer.momentum, 0),
        "schedule.warmup": (schedule.warmup, 0),
        "schedule.every": (schedule.every, 1),
        "trainer.max_epochs": (settings.max_epochs, 1),
        "trainer.max_steps": (settings.max_steps, 1),
        "trainer.max_minutes": (settings.max_minutes, 1e-3),
        "trainer.accumulate": (settings.accumulate, 1),
        "trainer.gradient_clip": (settings.gradient_clip, 1e-12),
        "trainer.early_stopping": (settings.early_stopping, 1),
        "trainer.validate_every": (settings.validate_every, 1),
        "trainer.picture_every": (settings.picture_every, 1),
        "trainer.pictures": (settings.pictures, 0),
        "trainer.keep_every": (settings.keep_every, 1),
        "trainer.log_every": (settings.log_every, 1),
    }
    for number, stage in enumerate(data.stages, 1):
        smallest[f"data.stages, number {number}, batch_size"] = (stage.batch_size, 1)
        if not 0 <= stage.since <= 1:
            raise ConfigError(
                f"data.stages, number {number}: since is a share of the epochs between 0 and 1, "
                f"got {stage.since:g}"
            )
    for name, (value, least) in smallest.items():
        if value is not None and not value >= least:
            raise ConfigError(f"{name} must be at least {least:g}, got {value:g}")
    if recipe.seed >= 2**32:
        raise ConfigError(f"seed must be below 2^32, got {recipe.seed}")
    if schedule.name == "plateau" and not 0 < schedule.factor < 1:
        raise ConfigError(f"schedule.factor must lie between 0 and 1, got {schedule.factor:g}")
    if schedule.warmup and schedule.name in ("plateau", "one_cycle"):
        raise ConfigError(f"schedule.warmup is not for {schedule.name}; leave it out")
    if not 0 < recipe.optimizer.rho < 1:
        raise ConfigError(f"optimizer.rho must lie between 0 and 1, got {recipe.optimizer.rho:g}")
    if settings.ema is not None and not 0 < settings.ema < 1:
        raise ConfigError(f"trainer.ema must lie between 0 and 1, got {settings.ema:g}")
    if ".." in Path(recipe.name).parts or Path(recipe.name).is_absolute():
        raise ConfigError(f"name: {recipe.name} leaves the output folder")


def _rank() -> int:
    """Of this process, as Lightning, torchrun or SLURM tell it."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def _ranks(recipe: Recipe) -> int:
    """How many processes will train, as far as it is known before Lightning starts them."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    devices, gpus = recipe.trainer.devices, torch.cuda.device_count() if _on_cuda(recipe) else 1
    if isinstance(devices, list):
        count = len(devices)
    elif isinstance(devices, int):
        count = gpus if devices == -1 else devices
    else:
        count = int(devices) if devices.isdigit() else gpus
    return max(1, count) * recipe.trainer.num_nodes


def describe_plan(plan: Plan) -> list[tuple[str, str]]:
    """What a dry run prints: names and values."""
    data, settings = plan.recipe.data, plan.recipe.trainer
    width, height = (data.crop, data.crop) if data.crop else plan.pairs.train[0].sharp.size()
    pixels = width * height * data.batch_size
    most = max(pixels, *(stage.crop**2 * stage.batch_size for stage in data.stages), 0)
    summary = summarize(plan.network, with_field=False)
    macs = 3 * summary.macs_per_pixel * pixels  # the backward pass costs twice the forward one
    # Besides the weights, their gradients and Adam's two averages.
    weights = 4 * summary.parameters * (4 + (settings.ema is not None))
    features = training_feature_bytes(plan.network) * most
    each = "in the first epoch" if data.stages else "an epoch"
    size = "whole images" if data.crop is None else f"{data.crop}×{data.crop}"
    return [
        ("recipe", plan.recipe.name),
        ("network", f"{plan.recipe.network.name} {plan.recipe.network.options or ''}".strip()),
        ("parameters", f"{summary.parameters:,}"),
        (
            "multiply-adds",
            f"{macs / 1e9:,.1f} G a batch, forward and backward",
        ),
        ("memory", f"about {(weights + features) / 2**20:,.0f} MiB a device"),
        ("training", f"{len(plan.pairs.train)} images"),
        ("validation", f"{len(plan.pairs.val)} images"),
        ("batch", f"{data.batch_size} × {size} on each of {plan.ranks} devices"),
        *(
            (f"after {stage.since:.0%}", f"{stage.batch_size} × {stage.crop}×{stage.crop}")
            for stage in data.stages
        ),
        ("steps", f"{plan.steps:,} ({plan.module.epoch_ends[0]:,} {each})"),
    ]


def train(
    recipe: Recipe, resume: Path | None = None, listeners: Sequence[Callable[[Row], None]] = ()
) -> Path:
    """Train a recipe, or go on with the run in the folder `resume`; returns the run's folder.

    listeners: called with each row of metrics; what they raise ends the training.

    Raises ConfigError, DataError or TrainingError.
    """
    _quieten()
    plan = plan_training(recipe, begins=resume is None)
    is_first = _rank() == 0
    checkpoint = _checkpoint_of(resume) if resume is not None else None
    data = RestorationData(
        recipe.data,
        plan.pairs,
        seed=recipe.seed,
        epochs=recipe.trainer.max_epochs,
        value_range=plan.value_range,
    )
    if recipe.network.revive and resume is None:
        samples = data.train_samples(0)
        images = [torch.from_numpy(samples[index]["blurred"])[None] for index in range(_LOOKED_AT)]
        revived = "{} of {} hidden channels were silent on {} samples and begin anew".format(
            *revive_silent_channels(plan.network, images), _LOOKED_AT
        )
        plan.module.begin_average()
    else:
        revived = None
    if resume is None:
        require_outside(Path(recipe.output).expanduser(), plan.pairs.roots)
    folder = resume or _new_folder(recipe)
    if checkpoint is not None:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        _check_resumed(folder, plan, content)
        plan.module.on_load_checkpoint(content)  # raises before anything is written
        data.resumed_epoch, data.resumed_batches = _progress(plan, data, content)
        _go_on(plan, data.resumed_epoch, data.resumed_batches, content)
        del content
    console = Console(plan.steps)
    metrics = Metrics(folder / "metrics.csv", recipe.trainer.log_every, [console.show, *listeners])
    checkpoints = Checkpoints(
        folder / "checkpoints",
        recipe.trainer.checkpoint_seconds,
        recipe.trainer.keep_every,
        data,
        plan.before,
    )
    trainer = _trainer(recipe, folder, metrics, checkpoints, is_first)
    if is_first:
        _begin(folder, recipe, plan)
    try:
        with console:
            if is_first:
                console.say(f"run: {folder}")
                _warn_of_leak(plan, console)
                if revived is not None:
                    console.say(revived)
            _fit(trainer, plan.module, data, checkpoint)
    finally:
        os.environ.pop(_SHARED_FOLDER, None)
    if trainer.is_global_zero:
        summary = _summary(plan, metrics, checkpoints, trainer)
        write_json(folder / SUMMARY_FILE, summary)
    return folder


def _warn_of_leak(plan: Plan, console: Console) -> None:
    """Where the weights that a training begins with have seen what validates it."""
    leak = leak_of(Counter(pair.sequence for pair in plan.pairs.val), plan.before or [])
    if leak.sequences:
        console.say(
            f"warning: the weights that this begins with were trained on {leak.images} of "
            f"{leak.val_images} validation images, such as {min(leak.sequences)}; validation will "
            "look better than it is"
        )


def _check_resumed(folder: Path, plan: Plan, content: dict[str, Any]) -> None:
    """Raise TrainingError for a run that has nothing to go on with, or other data than it had."""
    settings = plan.recipe.trainer
    most = math.inf if settings.max_steps is None else settings.max_steps
    longest = math.inf if settings.max_minutes is None else settings.max_minutes
    timers = [state for name, state in content["callbacks"].items() if name.startswith("Timer")]
    minutes = max((timer["time_elapsed"]["train"] / 60 for timer in timers), default=0)
    if (
        content["progress"][0] >= settings.max_epochs
        or content["optimizer_steps"] >= most
        or minutes >= longest
    ):
        raise TrainingError(
            f"{folder}: has finished its training; raise trainer.max_epochs, max_steps or "
            "max_minutes"
        )
    if content.get("data", plan.pairs.digest) != plan.pairs.digest:
        raise TrainingError(
            f"{folder}: its data has changed since it began, so that what validates now may have "
            "been trained on; put the data back as it was, or begin a new run from its weights "
            "with --network.weights"
        )


def _progress(plan: Plan, data: RestorationData, content: dict[str, Any]) -> tuple[int, int]:
    """The epoch that a checkpoint lies in, and as many of its batches as now hold what it saw."""
    epoch, batches = content["progress"]
    now = data.batch_samples(epoch, plan.ranks)
    before = content.get("batch_samples", now)
    if before == now:
        return epoch, batches
    batches = min(batches * before // now, plan.batches[epoch] - 1)
    return epoch, batches - batches % plan.recipe.trainer.accumulate


def _go_on(plan: Plan, epoch: int, seen: int, content: dict[str, Any]) -> None:
    """Count on from the steps that a run has made so far, perhaps by another plan."""
    critics = plan.recipe.adversarial.critic_steps if plan.recipe.adversarial else 1
    rest = content.get("critic_updates", 0) % critics
    plan.module.steps, plan.module.epoch_ends = _steps(
        plan.recipe, plan.batches, epoch, seen, content["optimizer_steps"], rest
    )


def _quieten() -> None:
    """Leave out Lightning's remarks on devices, its advertisements and its advice."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "torch.utils.data"):
        warnings.filterwarnings("ignore", module=module)


def _fit(
    trainer: pl.Trainer, module: RestorationModule, data: RestorationData, checkpoint: Path | None
) -> None:
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except (DataError, BlurError) as error:
        # Of another process it comes with that process's traceback, which ends with what it says.
        last, kind = str(error).strip().splitlines()[-1], type(error)
        raise kind(last.removeprefix(f"{kind.__module__}.{kind.__name__}: ")) from error
    except (TrainingError, ConfigError):
        raise
    except SystemExit:
        if trainer.interrupted:  # Lightning's own way to end after Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if "stack expects each tensor to be equal size" in text:
            raise TrainingError(
                "images of different sizes do not form a batch: set --data.crop or --data.resize, "
                "or --data.batch_size 1"
            ) from error
        if "DataLoader worker" in text:
            raise TrainingError(
                f"a process that makes samples ended at step {module.optimizer_steps}, mostly for "
                "want of memory, or of shared memory in a container: lower --data.workers"
            ) from error
        if isinstance(error, torch.OutOfMemoryError) or out_of_memory(error):
            raise TrainingError(
                f"out of memory at step {module.optimizer_steps}: lower --data.batch_size or "
                "--data.crop (--trainer.accumulate keeps the effective batch), or use "
                "--trainer.precision bf16-mixed"
            ) from error
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def _trainer(
    recipe: Recipe, folder: Path, metrics: Metrics, checkpoints: Checkpoints, is_first: bool
) -> pl.Trainer:
    settings = recipe.trainer
    if settings.tf32 and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    callbacks: list[pl.Callback] = [
        metrics,
        checkpoints,
        Pictures(folder / "pictures", settings.picture_every, settings.pictures),
        Curves(folder / "curves.png", metrics, settings.picture_every),
    ]
    if settings.early_stopping is not None:
        callbacks.append(
            EarlyStopping("val/psnr", patience=settings.early_stopping, mode="max", strict=False)
        )
    manual = recipe.adversarial is not None
    strategy = settings.strategy
    if manual and strategy == "ddp":
        strategy = "ddp_find_unused_parameters_true"  # each step is of one of two networks
    minutes = settings.max_minutes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on what this machine could do besides
        try:
            return pl.Trainer(
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.num_nodes,
                strategy=strategy,
                precision=_precision(recipe),
                deterministic=settings.deterministic,
                sync_batchnorm=settings.sync_batchnorm,
                max_epochs=settings.max_epochs,
                max_steps=_lightning_steps(recipe),
                max_time=None if minutes is None else timedelta(minutes=minutes),
                gradient_clip_val=None if manual else settings.gradient_clip,
                accumulate_grad_batches=1 if manual else settings.accumulate,
                check_val_every_n_epoch=settings.validate_every,
                reload_dataloaders_every_n_epochs=1 if recipe.data.stages else 0,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                enable_checkpointing=True,  # by our own callback
                enable_progress_bar=False,
                enable_model_summary=False,
                logger=_loggers(recipe, folder) if is_first else False,
                callbacks=callbacks,
                plugins=[AtomicCheckpointIO()],
                default_root_dir=folder,
            )
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise ConfigError(f"trainer: {' '.join(str(error).split())[:300]}") from error


def _precision(recipe: Recipe) -> Any:
    """Float16 with scaling is for CUDA; elsewhere such a recipe is trained in float32."""
    if recipe.trainer.precision == "16-mixed":
        return "16-mixed" if _on_cuda(recipe) else "32"
    return recipe.trainer.precision


def _on_cuda(recipe: Recipe) -> bool:
    return torch.cuda.is_available() and recipe.trainer.accelerator in ("auto", "gpu", "cuda")


def _lightning_steps(recipe: Recipe) -> int:
    """Lightning counts the steps of every optimizer."""
    if recipe.trainer.max_steps is None:
        return -1
    adversarial = recipe.adversarial
    return recipe.trainer.max_steps * (1 if adversarial is None else 1 + adversarial.critic_steps)


def _loggers(recipe: Recipe, folder: Path) -> list[Any]:
    loggers: list[Any] = []
    if recipe.tensorboard:
        from pytorch_lightning.loggers import TensorBoardLogger

        with _needs("tensorboard", "train"):
            loggers.append(TensorBoardLogger(str(folder), name="", version="tensorboard"))
    if recipe.wandb:
        from pytorch_lightning.loggers import WandbLogger

        name = f"{recipe.name}/{folder.name}"
        with _needs("wandb", "wandb"):
            loggers.append(WandbLogger(project="unblur", name=name, save_dir=folder))
    return loggers


@contextmanager
def _needs(setting: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"{setting}: true needs: pip install 'unblur[{extra}]'") from error


def _new_folder(recipe: Recipe) -> Path:
    """experiments/NAME/TIME; all processes of one run share it."""
    shared = os.environ.get(_SHARED_FOLDER)
    if shared and "LOCAL_RANK" in os.environ:
        return Path(shared)
    if _rank() != 0:
        return Path(recipe.output)  # only the first process writes
    base = Path(recipe.output).expanduser() / recipe.name
    stamp = time.strftime("%Y%m%d-%H%M%S")
    number = 0
    while True:
        folder = base / (stamp if number == 0 else f"{stamp}-{number:02}")
        try:
            base.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not base.is_dir():
                raise ConfigError(f"{base}: is no folder") from None
            number += 1
            continue
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from error
        # Processes that Lightning starts find the folder here.
        os.environ[_SHARED_FOLDER] = str(folder)
        return folder


def _checkpoint_of(folder: Path) -> Path:
    checkpoint, damaged = newest_whole(folder / "checkpoints")
    for path in damaged:
        print(f"warning: {path} is damaged; going back to the one before", file=sys.stderr)
        set_aside(path)
    if checkpoint is None:
        raise TrainingError(f"{folder}: holds no checkpoint to go on from")
    return checkpoint


def newest_run(output: Path, name: str) -> Path:
    """The folder of a recipe's newest run. Raises TrainingError when there is none."""
    folders = sorted(path for path in (output / name).glob("*") if (path / RECIPE_FILE).is_file())
    for folder in reversed(folders):  # the newest that got as far as a checkpoint
        if newest_whole(folder / "checkpoints")[0] is not None:
            return folder
    stem = name.removesuffix("-quick")
    other, how = (f"{stem}-quick", "with") if name == stem else (stem, "without")
    hint = f"; those {how} --quick are in {output / other}" if (output / other).is_dir() else ""
    raise TrainingError(f"{output / name}: holds no run to resume{hint}")


def read_run(folder: Path, overrides: list[str]) -> Recipe:
    """The recipe that a run was begun with. Raises ConfigError.

    overrides: how long to train and on what, but not what is trained, which a checkpoint fixes.
    """
    if not (folder / RECIPE_FILE).is_file():
        raise ConfigError(f"{folder}: is not the folder of a run, it has no {RECIPE_FILE}")
    begun = read_recipe(folder / RECIPE_FILE)
    recipe = read_recipe(folder / RECIPE_FILE, overrides)
    before = settings_of(begun)
    for name, value in settings_of(recipe).items():
        if value != before.get(name) and not name.startswith(_MAY_CHANGE):
            raise ConfigError(
                f"--{name} was {before.get(name)} and cannot be changed when a run goes on, only "
                f"{', '.join(f'--{start}' for start in _MAY_CHANGE)}; begin a new run from its "
                "weights with --network.weights"
            )
    return recipe


def _begin(folder: Path, recipe: Recipe, plan: Plan) -> None:
    write_recipe(recipe, folder / RECIPE_FILE)
    write_json(folder / "environment.json", environment())
    if plan.pairs.split is not None:
        write_split(plan.pairs.split, folder / "split.json")


def environment() -> dict[str, Any]:
    """Versions and hardware, as results should name them."""
    return {
        "unblur": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": metadata.version("pytorch-lightning"),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": f"{processor()}, {torch.get_num_threads()} threads",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": " ".join(["unblur", *sys.argv[1:]]),
    }


def _summary(
    plan: Plan, metrics: Metrics, checkpoints: Checkpoints, trainer: pl.Trainer
) -> dict[str, Any]:
    validations = [row for row in metrics.rows if "val/psnr" in row]
    losses = [row["train/loss"] for row in metrics.rows if "train/loss" in row]
    module = trainer.lightning_module
    assert isinstance(module, RestorationModule)  # noqa: S101
    return {
        "recipe": plan.recipe.name,
        "network": plan.recipe.network.name,
        "parameters": count_parameters(plan.network),
        "steps": module.optimizer_steps,
        "epochs": trainer.current_epoch,
        "seconds": round(checkpoints.trained_seconds, 1),
        "hardware": environment()["gpus"] or environment()["cpu"],
        "train_images": len(plan.pairs.train),
        "val_images": len(plan.pairs.val),
        "split": None if plan.pairs.split is None else plan.pairs.split.digest,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "psnr_input": validations[-1]["val/psnr_input"] if validations else None,
        "psnr": validations[-1]["val/psnr"] if validations else None,
        "ssim_input": validations[-1].get("val/ssim_input") if validations else None,
        "ssim": validations[-1].get("val/ssim") if validations else None,
        "best_psnr": checkpoints.best,
        "best_step": checkpoints.best_step,
    }
