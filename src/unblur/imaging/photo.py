"""A photo in memory: its pixels in the file's own precision, and everything that came with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.imaging.metadata import Metadata

Pixels = NDArray[Any]  # uint8 or uint16


@dataclass(frozen=True)
class Photo:
    """An upright photo.

    pixels: H×W×3 sRGB-like colours, or H×W for a greyscale photo; uint8 or uint16.
    alpha: H×W of the same type, or None.
    format: the file format it was read from, in Pillow's naming.
    encoding: format-specific choices of the source file that its copy should share.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "PNG"
    metadata: Metadata = field(default_factory=Metadata)
    encoding: dict[str, object] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    def with_pixels(self, pixels: Pixels) -> Photo:
        return replace(self, pixels=pixels)


def as_colours(pixels: Pixels) -> Pixels:
    """H×W×3 of greyscale pixels H×W; colours are returned as they are."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def to_eight_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Round 16-bit values to 8 bits; 8-bit ones are returned as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror an array as the EXIF orientation (1…8) says the viewer should."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
