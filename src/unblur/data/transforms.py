"""Data sets made of data sets, without touching a file: resized, in patches, averaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from unblur.blur import FrameAverage
from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.randomness import generator
from unblur.data.sources import AveragedSource, ImageSource, PatchSource, ResizedSource
from unblur.registry import unknown

_PATCH = r"patch-\d+-\d+"  # what names of patches end in


def _with_sources(pair: Pair, change: Callable[[ImageSource], ImageSource]) -> Pair:
    blurred = None if pair.blurred is None else change(pair.blurred)
    return replace(pair, sharp=change(pair.sharp), blurred=blurred)


def resized(dataset: Dataset, height: int, width: int) -> Dataset:
    """Every image at one size, whatever its proportions were; known kernels are so no longer."""

    def change(source: ImageSource) -> ImageSource:
        return ResizedSource(source, width, height)

    pairs = [replace(_with_sources(pair, change), kernel=None) for pair in dataset.pairs]
    return replace(dataset, pairs=tuple(pairs))


def in_patches(dataset: Dataset, rows: int, columns: int) -> Dataset:
    """Every image cut into rows × columns equal patches, each a pair of its own.

    Raises DataError for images with fewer pixels than patches.
    """
    pairs = []
    for pair in dataset.pairs:
        for row in range(rows):
            for column in range(columns):

                def change(
                    source: ImageSource, row: int = row, column: int = column
                ) -> PatchSource:
                    return PatchSource(source, row, column, rows, columns)

                patch = _with_sources(pair, change)
                pairs.append(replace(patch, name=f"{pair.name}/patch-{row + 1}-{column + 1}"))
    return replace(dataset, pairs=tuple(pairs))


def without_blurred(dataset: Dataset) -> Dataset:
    """Only the sharp images, so that blur is made anew."""
    pairs = [replace(pair, blurred=None, kernel=None, blur=()) for pair in dataset.pairs]
    return replace(dataset, pairs=tuple(pairs))


def of_subset(dataset: Dataset, name: str) -> Dataset:
    """Only this part of its authors' split, such as train. Raises ConfigError."""
    pairs = tuple(pair for pair in dataset.pairs if pair.subset == name)
    if not pairs:
        known = {pair.subset for pair in dataset.pairs if pair.subset}
        raise unknown(f"subset of {dataset.spec}", name, known)
    return replace(dataset, pairs=pairs)


def of_sequences(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Only these sequences; the last part of a name will do. Raises ConfigError."""
    known = {pair.sequence for pair in dataset.pairs}
    chosen = set()
    for name in names:
        found = {each for each in known if each == name or each.endswith(f"/{name}")}
        if not found:
            raise unknown(f"sequence of {dataset.spec}", name, sorted(known))
        chosen |= found
    return replace(dataset, pairs=tuple(p for p in dataset.pairs if p.sequence in chosen))


def averaged(dataset: Dataset, frames: FrameAverage, seed: int = 0) -> Dataset:
    """Sequences of frames → pairs of an average and its middle frame.

    The widths of the windows are drawn anew for each, by `seed`. Raises DataError when no
    sequence has enough frames.
    """
    groups: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in dataset.pairs:
        # Parts of a mixture and patches of a frame share a sequence, but not a scene.
        folder, _, name = pair.name.rpartition("/")
        patch = name if re.fullmatch(_PATCH, name) else ""
        if patch:
            folder, _, name = folder.rpartition("/")
        groups.setdefault((pair.sequence, folder, patch), []).append(pair)
    pairs: list[Pair] = []
    for (sequence, folder, patch), group in sorted(groups.items()):
        rng = generator(seed, sequence, folder, patch)
        for run in _consecutive(group):
            pairs += _windows(run, frames, rng)
    if not pairs:
        raise DataError(
            f"{dataset.spec}: no sequence has enough consecutive frames to average; "
            "each needs the window's width, in a folder of its own with numbered names"
        )
    return replace(dataset, pairs=tuple(sorted(pairs, key=lambda pair: pair.name)))


def _number(pair: Pair) -> int | None:
    """The number of a frame, the last one in its name."""
    numbers = re.findall(r"\d+", re.sub(f"/{_PATCH}$", "", pair.name).rsplit("/", 1)[-1])
    return int(numbers[-1]) if numbers else None


def _consecutive(group: list[Pair]) -> list[list[Pair]]:
    """The frames of a sequence in order, cut where one is missing."""
    numbered = [(number, pair) for pair in group if (number := _number(pair)) is not None]
    if len(numbered) < len(group):
        return [sorted(group, key=lambda pair: pair.name)]
    numbered.sort(key=lambda item: item[0])
    steps = [later[0] - earlier[0] for earlier, later in pairwise(numbered)]
    usual = min(steps, default=1)
    runs = [[numbered[0][1]]]
    for step, (_, pair) in zip(steps, numbered[1:], strict=True):
        if step == usual:
            runs[-1].append(pair)
        else:
            runs.append([pair])
    return runs


def _windows(sequence: list[Pair], frames: FrameAverage, rng: np.random.Generator) -> list[Pair]:
    pairs: list[Pair] = []
    start = 0
    while True:
        width = frames.draw_window(rng, len(sequence) - start)
        if width is None:
            return pairs
        middle = sequence[start + width // 2]
        shown = tuple(pair.sharp for pair in sequence[start : start + width])
        # Windows that overlap may share their middle.
        name = middle.name if frames.stride is None else f"{middle.name}-mean-{start + 1}-{width}"
        pairs.append(replace(middle, name=name, blurred=AveragedSource(shown, frames.gamma)))
        start += frames.stride or width
