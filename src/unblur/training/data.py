"""The data of a recipe: training and validation samples, and the loaders of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from unblur.blur import parse_degradation
from unblur.data import (
    Augmentation,
    DataError,
    Dataset,
    ImageCache,
    Pair,
    Positions,
    Samples,
    Split,
    averaged,
    in_patches,
    leak_of,
    make_split,
    of_subset,
    open_dataset,
    read_split,
    require_healthy,
    resized,
    without_blurred,
)
from unblur.data.samples import ValueRange
from unblur.registry import ConfigError
from unblur.training.config import DataConfig, Stage


@dataclass(frozen=True)
class Prepared:
    """What a recipe's data settings lead to.

    split: None when validation has its own data. roots: the folders that all of it lies in.
    """

    train: list[Pair]
    val: list[Pair]
    split: Split | None
    roots: tuple[Path, ...] = ()

    @property
    def trained_on(self) -> Collection[str]:
        """What an evaluation compares with its own data: sequences, or frames of them."""
        return self.split.train if self.split else {pair.sequence for pair in self.train}

    @property
    def digest(self) -> str:
        """SHA-256 of the names of what trains and what validates."""
        names = [[pair.name for pair in pairs] for pairs in (self.train, self.val)]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def prepare_pairs(config: DataConfig) -> Prepared:
    """Open, check and split the data sets of a recipe. Raises DataError and ConfigError."""
    if not config.train:
        raise ConfigError("name the data to train on with --data.train layout:path")
    dataset = _opened(config, config.train, config.subset)
    if config.val is not None:
        other = _opened(config, config.val, config.val_subset)
        leak = leak_of(dict.fromkeys(other.sequences, 1), dataset.sequences)
        if leak.sequences:
            raise DataError(
                f"{other.spec}: {len(leak.sequences)} of its sequences, such as "
                f"{min(leak.sequences)}, are also trained on; a validation on them says nothing "
                "(sequences go by name: rename files or folders that only happen to share one)"
            )
        roots = dataset.roots + other.roots
        return Prepared(_patched(config, dataset), _patched(config, other), None, roots)
    settings = config.split
    if settings.file is not None:
        split = read_split(Path(settings.file).expanduser())
    elif settings.kind == "none":
        pairs = _patched(config, dataset)
        return Prepared(pairs, pairs, None, dataset.roots)
    else:
        split = make_split(
            dataset, settings.kind, settings.seed, settings.ratio, settings.by, settings.frames
        )
    train, val = (replace(dataset, pairs=tuple(split.part(dataset, p))) for p in ("train", "val"))
    return Prepared(_patched(config, train), _patched(config, val), split, dataset.roots)


def _patched(config: DataConfig, dataset: Dataset) -> list[Pair]:
    """Its images, cut into the recipe's patches: of those that a split has chosen."""
    if config.patches is not None:
        dataset = in_patches(dataset, *config.patches)
    return list(dataset.pairs)


def _opened(config: DataConfig, spec: str | list[dict[str, Any]], subset: str | None) -> Dataset:
    dataset = require_healthy(open_dataset(spec, Path(config.root).expanduser()))
    if subset is not None:
        dataset = of_subset(dataset, subset)
    if config.reblur:
        dataset = without_blurred(dataset)
    if config.blur is not None:
        frames = parse_degradation(config.blur).frames
        if frames is not None:
            dataset = averaged(dataset, frames, config.split.seed)
    if config.resize is not None:
        dataset = resized(dataset, *config.resize)
    return dataset


def first_stage(config: DataConfig) -> Stage:
    """What a training begins with. A crop of 0: whole images."""
    return Stage(0.0, config.crop or 0, config.batch_size)


def stage_at(config: DataConfig, epoch: int, epochs: int) -> Stage:
    """Crop and batch size of an epoch."""
    current = first_stage(config)
    for stage in sorted(config.stages, key=lambda stage: stage.since):
        if epoch >= stage.since * epochs:
            current = stage
    return current


def epoch_steps(config: DataConfig, images: int, epochs: int, ranks: int) -> list[int]:
    """Batches of each epoch on one rank. Raises DataError when an epoch has not even one."""
    length = config.epoch_length or images
    batches = [
        length // ranks // stage_at(config, epoch, epochs).batch_size for epoch in range(epochs)
    ]
    if min(batches, default=1) < 1:
        largest = max(config.batch_size, *(stage.batch_size for stage in config.stages), 1)
        raise DataError(
            f"{length} training samples in an epoch are fewer than a batch of {largest} on "
            f"{ranks} devices; lower --data.batch_size or raise --data.epoch_length"
        )
    return batches


class EpochSampler(Sampler[int]):
    """The positions of an epoch; Lightning tells it which (`set_epoch`).

    start: samples of epoch `first` that a resumed run has seen.
    """

    def __init__(self, length: int, rank: int, ranks: int, first: int = 0, start: int = 0) -> None:
        self.length, self.rank, self.ranks = length, rank, ranks
        self.first, self.start, self.epoch = first, start, first

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        # The whole epoch's: Lightning counts the batches that were seen before it was resumed.
        return self.length // self.ranks

    def __iter__(self) -> Iterator[int]:
        start = self.start if self.epoch == self.first else 0
        return iter(Positions(self.length, self.epoch, start, self.rank, self.ranks))


class ValidationSampler(Sampler[int]):
    """All validation samples, equally many on each rank; those past the end are repetitions."""

    def __init__(self, length: int, rank: int, ranks: int) -> None:
        self.length, self.rank, self.ranks = length, rank, ranks

    def __len__(self) -> int:
        return -(-self.length // self.ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self) * self.ranks, self.ranks))


class RestorationData(LightningDataModule):
    """Samples for training and validation, as a recipe says.

    Training batches have blurred and sharp N×3×H×W; validation samples come one at a time.
    """

    def __init__(
        self,
        config: DataConfig,
        pairs: Prepared,
        *,
        seed: int,
        epochs: int,
        value_range: ValueRange,
    ) -> None:
        super().__init__()
        self.config, self.pairs, self.seed, self.epochs = config, pairs, seed, epochs
        self.value_range = value_range
        # Where an interrupted run goes on; a checkpoint sets both.
        self.resumed_epoch = self.resumed_batches = 0
        self._train_loader: tuple[Stage, DataLoader[Any]] | None = None
        self.cache = ImageCache(Path(config.cache).expanduser() if config.cache else None)
        blur = parse_degradation(config.blur) if config.blur else None
        self.train_blur = blur
        val_blur = parse_degradation(config.val_blur) if config.val_blur else blur
        val = pairs.val
        if config.val_length is not None and config.val_length < len(val):
            chosen = np.linspace(0, len(val) - 1, config.val_length).round().astype(int)
            val = [val[index] for index in chosen]
        self.val_samples = Samples(
            val,
            val_blur,
            crop=config.val_crop or config.crop,
            seed=seed,
            value_range=value_range,
            cache=self.cache,
        )
        scale = config.scale
        self.augmentation = Augmentation(
            flips=config.flips,
            rotations=config.rotations,
            jitter=config.jitter,
            scale=_two_floats(scale) if isinstance(scale, list) else scale,
        )
        for stage in (first_stage(config), *config.stages):
            self._samples(stage)  # raises what is wrong before anything is begun

    def batch_samples(self, epoch: int, ranks: int) -> int:
        """How many samples of an epoch are in a batch, over all ranks."""
        return stage_at(self.config, epoch, self.epochs).batch_size * ranks

    def train_samples(self, epoch: int) -> Samples:
        """The samples of an epoch's stage."""
        return self._samples(stage_at(self.config, epoch, self.epochs))

    def _samples(self, stage: Stage) -> Samples:
        return Samples(
            self.pairs.train,
            self.train_blur,
            crop=stage.crop or None,
            augmentation=self.augmentation,
            seed=self.seed,
            length=self.config.epoch_length,
            value_range=self.value_range,
            cache=self.cache,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        trainer = self.trainer
        assert trainer is not None  # noqa: S101
        epoch = trainer.current_epoch
        stage = stage_at(self.config, epoch, self.epochs)
        # Asked for every epoch where a recipe has stages: a new one has new processes, and their
        # images still to be read.
        if self._train_loader is not None and self._train_loader[0] == stage:
            return self._train_loader[1]
        samples = self.train_samples(epoch)
        ranks = trainer.world_size
        seen = self.resumed_batches * self.batch_samples(epoch, ranks)
        sampler = EpochSampler(len(samples), trainer.global_rank, ranks, self.resumed_epoch, seen)
        loader: DataLoader[Any] = DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=stage.batch_size,
            sampler=sampler,
            num_workers=self.config.workers,
            drop_last=True,
            persistent_workers=self.config.workers > 0,
            pin_memory=trainer.strategy.root_device.type == "cuda",
        )
        self._train_loader = stage, loader
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        trainer = self.trainer
        assert trainer is not None  # noqa: S101
        sampler = ValidationSampler(len(self.val_samples), trainer.global_rank, trainer.world_size)
        return DataLoader(
            self.val_samples,  # type: ignore[arg-type]
            batch_size=1,
            sampler=sampler,
            num_workers=min(1, self.config.workers),
            persistent_workers=self.config.workers > 0,
        )


def _two_floats(values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise ConfigError(f"data.scale takes a number or two, got {values}")
    return values[0], values[1]
