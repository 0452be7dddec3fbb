"""Which sequences train and which validate: small JSON files, and how far two of them leak.

Neighbouring frames of a video are nearly the same image, so whole sequences are assigned, never
single frames.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.files import atomic_path

Kind = Literal["original", "sequence", "frames"]
Part = Literal["train", "val"]


@dataclass(frozen=True)
class Split:
    """Sequences and their numbers of images, in training and in validation.

    frames: 1-based positions within each sequence that are used, None for all.
    """

    kind: Kind
    data: str
    train: dict[str, int]
    val: dict[str, int]
    seed: int | None = None
    ratio: float | None = None
    by: Literal["sequences", "images"] | None = None
    frames: tuple[int, ...] | None = None

    def to_json(self) -> str:
        return json.dumps({"format": "unblur-split-1", **asdict(self)}, indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of what the split says; stored with every checkpoint trained on it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def part(self, dataset: Dataset, part: Part) -> list[Pair]:
        """The pairs of a data set that train or validate. Raises DataError for another data set.

        Of the authors' subsets, what is in none is in neither part.
        """
        in_parts = [p for p in dataset.pairs if p.subset or self.kind != "original"]
        unknown = {p.sequence for p in in_parts} - self.train.keys() - self.val.keys()
        if unknown:
            raise DataError(
                f"{dataset.spec}: the split knows nothing of {len(unknown)} of its sequences, "
                f"such as {min(unknown)}; it was made for {self.data}"
            )
        wanted = self.train if part == "train" else self.val
        return [p for p in select_frames(dataset.pairs, self.frames) if p.sequence in wanted]


def select_frames(pairs: Sequence[Pair], positions: Sequence[int] | None) -> list[Pair]:
    """The pairs at 1-based positions of each sequence, in the order of names; all when None."""
    if positions is None:
        return list(pairs)
    if min(positions) < 1:
        raise DataError(f"frames are counted from 1, got {min(positions)}")
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for pair in sorted(pairs, key=lambda p: p.name):
        place = (pair.sequence, pair.part)
        seen[place] += 1
        if seen[place] in positions:
            chosen.append(pair)
    if not chosen:
        raise DataError(
            f"no sequence has a frame at the positions {', '.join(map(str, positions))}"
        )
    return chosen


def make_split(
    dataset: Dataset,
    kind: Kind = "sequence",
    seed: int = 42,
    ratio: float = 0.85,
    by: Literal["sequences", "images"] = "sequences",
    frames: Sequence[int] | None = None,
) -> Split:
    """Assign the sequences of a data set to training and validation.

    kind: "original" takes the authors' subsets (test or val validates); "sequence" pools them and
        draws whole sequences by `seed`; "frames" does the same with only some frames of each.
    ratio: the share that trains, of the sequences or of the images, as `by` says.
    Raises DataError when a part would be empty.
    """
    if kind not in get_args(Kind):
        raise DataError(f"unknown kind of split '{kind}': one of {', '.join(get_args(Kind))}")
    if not 0 < ratio < 1:
        raise DataError(f"the ratio must lie between 0 and 1, got {ratio}")
    if kind == "frames" and not frames:
        raise DataError("a split by frames needs their positions, such as --frames 1,40,80")
    positions = tuple(sorted(set(frames))) if frames and kind == "frames" else None
    if frames and kind != "frames":
        raise DataError("positions of frames go together with --kind frames")
    pairs = select_frames(dataset.pairs, positions)
    counts = Counter(pair.sequence for pair in pairs)
    if kind == "original":
        train, val = _original(dataset)
        return Split(kind, dataset.spec, train, val)
    groups: dict[str, list[str]] = {}
    for name in sorted(counts):
        # Names that `leak_of` takes for the same one stay together.
        shortest = next(ending for ending in reversed(_endings(name)) if ending in counts)
        groups.setdefault(shortest, []).append(name)
    names = sorted(groups)
    sizes = {name: sum(counts[each] for each in groups[name]) for name in names}
    if len(names) < 2:
        raise DataError(f"{dataset.spec}: one sequence cannot be split; it needs at least two")
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    if by == "sequences":
        held = min(max(round((1 - ratio) * len(names)), 1), len(names) - 1)
    else:
        sums = np.cumsum([sizes[name] for name in order])[:-1]
        held = int(np.abs(sums - (1 - ratio) * len(pairs)).argmin()) + 1
    train, val = (
        {each: counts[each] for name in sorted(some) for each in groups[name]}
        for some in (order[held:], order[:held])
    )
    return Split(kind, dataset.spec, train, val, seed, ratio, by, positions)


def _original(dataset: Dataset) -> tuple[dict[str, int], dict[str, int]]:
    train = Counter(p.sequence for p in dataset.pairs if p.subset == "train")
    val = Counter(p.sequence for p in dataset.pairs if p.subset in ("test", "val"))
    if not train or not val:
        missing = "training" if not train else "validation"
        raise DataError(
            f"{dataset.spec}: has no {missing} subset of its authors; use --kind sequence"
        )
    if both := leak_of(val, train).sequences:
        raise DataError(f"{dataset.spec}: {min(both)} stands in both of its subsets")
    return dict(sorted(train.items())), dict(sorted(val.items()))


def write_split(split: Split, path: Path) -> None:
    """Write a split; the file appears whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(split.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def read_split(path: Path) -> Split:
    """Read a split file. Raises DataError when it is none."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != "unblur-split-1":
            raise ValueError("another format")
        values["frames"] = tuple(values["frames"]) if values["frames"] else None
        split = Split(**values)
        for part in (split.train, split.val):
            if not all(isinstance(k, str) and isinstance(v, int) for k, v in part.items()):
                raise ValueError("sequences are names with counts")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: is not a split file ({error})") from error
    return split


def _endings(name: str) -> list[str]:
    """A sequence's name as it would be read from any folder above it: a/b/c, b/c, c."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


@dataclass(frozen=True)
class Leak:
    """What of one split's validation stands in another's training: sequences and their images."""

    sequences: dict[str, int]
    val_sequences: int
    val_images: int

    @property
    def images(self) -> int:
        return sum(self.sequences.values())

    def __str__(self) -> str:
        if not self.sequences:
            return "no leak: no validation sequence stands in the other's training"
        return (
            f"LEAK: {len(self.sequences)} of {self.val_sequences} validation sequences, "
            f"{self.images} of {self.val_images} images, stand in the other's training"
        )


def find_leak(validated: Split, trained: Split) -> Leak:
    """The leak when a model trained on `trained` is validated on `validated`."""
    return leak_of(validated.val, trained.train)


def leak_of(validated: Mapping[str, int], trained: Collection[str]) -> Leak:
    """What of the validated sequences, and their numbers of images, stands among those trained on.

    Sequences are the same when their names are; one that was read from a folder further down
    (001 instead of train/001) is the same, too.
    """
    known = set(trained)
    below = {ending for name in known for ending in _endings(name)}
    common = {
        name: images
        for name, images in validated.items()
        if name in below or not known.isdisjoint(_endings(name))
    }
    return Leak(common, len(validated), sum(validated.values()))
