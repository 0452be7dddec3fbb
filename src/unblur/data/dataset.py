"""What every layout is read into: pairs of images, and the data set that they form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unblur.blur.steps import Record
from unblur.data.errors import DataError
from unblur.data.sources import ImageSource

SUBSETS = ("train", "test", "val")  # what authors of data sets divide them into


@dataclass(frozen=True)
class Pair:
    """A sharp image and, where there is one, its blurred partner.

    name: unique in its data set, `sequence/…` where there are sequences, `/`-separated.
    sequence: what neighbouring frames share; a split never cuts through one.
    subset: "train", "test" or "val" where the data set's authors say so, else "".
    part: of a mixture; weight: how often that part is drawn in training, relative to others.
    kernel: the .npy file of the kernel that made the whole blur, where it is known.
    blur: what was drawn when this package made the blur.
    """

    name: str
    sequence: str
    sharp: ImageSource
    blurred: ImageSource | None = None
    subset: str = ""
    part: str = ""
    weight: float = 1.0
    kernel: str | None = None
    blur: tuple[Record, ...] = ()


def require_outside(folder: Path, roots: Iterable[Path]) -> None:
    """Raise DataError for a folder to write to that lies in one of the data sets at `roots`.

    What is written there would be read as their images the next time.
    """
    for root in roots:
        if root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{folder}: lies inside the data set {root}; write to another folder")


@dataclass(frozen=True)
class Dataset:
    """The pairs of one data set, sorted by name.

    spec: `layout:path`, with the layout that was found for `auto`.
    problems: files that should have had a partner; empty for a healthy data set.
    roots: the folders it lies in.
    """

    spec: str
    layout: str
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()

    @property
    def sequences(self) -> list[str]:
        return sorted({pair.sequence for pair in self.pairs})

    @property
    def is_paired(self) -> bool:
        return any(pair.blurred is not None for pair in self.pairs)
