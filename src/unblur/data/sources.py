"""Single images of a data set, wherever they are stored, and the pairs made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unblur.data.errors import DataError
from unblur.imaging import ImageError, Photo, probe_size, read_photo
from unblur.imaging.photo import to_eight_bit


class ImageSource(Protocol):
    """One image that can be loaded when it is needed."""

    @property
    def label(self) -> str:
        """What messages call it: a path, or a place in an archive."""
        ...

    def size(self) -> tuple[int, int]:
        """(width, height), without decoding pixels where that is possible."""
        ...

    def load(self) -> NDArray[np.uint8]:
        """Its pixels, H×W×3 uint8; raises DataError."""
        ...


@dataclass(frozen=True)
class FileSource:
    """An image file; grey and 16-bit ones are converted, transparency is dropped."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    def size(self) -> tuple[int, int]:
        size = probe_size(self.path)
        if size == (0, 0):
            self.photo()  # raises the error that says why
        return size

    def photo(self) -> Photo:
        """The file as the imaging package reads it."""
        try:
            return read_photo(self.path)
        except ImageError as error:
            raise DataError(str(error)) from error

    def load(self) -> NDArray[np.uint8]:
        photo = self.photo()
        pixels = to_eight_bit(photo.pixels)
        return np.repeat(pixels[:, :, None], 3, axis=2) if photo.is_grey else pixels


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image that is in memory already, H×W×3 uint8."""

    label: str
    pixels: NDArray[np.uint8]

    def size(self) -> tuple[int, int]:
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def load(self) -> NDArray[np.uint8]:
        return self.pixels


@dataclass(frozen=True)
class Pair:
    """A sharp image and, where there is one, its blurred partner.

    name: unique in its data set, `sequence/…` where there are sequences, `/`-separated.
    sequence: what neighbouring frames share; a split never cuts through one.
    subset: "train", "test" or "val" where the data set's authors say so, else "".
    """

    name: str
    sequence: str
    sharp: ImageSource
    blurred: ImageSource | None = None
    subset: str = ""
