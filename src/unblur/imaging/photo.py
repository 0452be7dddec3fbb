"""A photo in memory: its pixels in the file's own precision, and everything that came with them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

ORIENTATION_TAG = 0x0112
EXIF_IFD = 0x8769
PIXEL_X, PIXEL_Y = 0xA002, 0xA003


@dataclass(frozen=True)
class Metadata:
    """What a file says about its pixels, as it is stored there."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def colour_only(self) -> Metadata:
        """Just what is needed to show the colours right, for pictures made from a photo."""
        return Metadata(icc_profile=self.icc_profile)


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
    metadata: Metadata = Metadata()
    encoding: dict[str, object] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    def with_pixels(self, pixels: Pixels) -> Photo:
        return replace(self, pixels=pixels)


def to_eight_bit(pixels: Pixels) -> NDArray[np.uint8]:
    """Round 16-bit values to 8 bits; 8-bit ones are returned as they are."""
    if pixels.dtype == np.uint8:
        return pixels  # type: ignore[return-value]
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


def upright_metadata(metadata: Metadata, orientation: int) -> Metadata:
    """The metadata of the turned photo: orientation reset, and stated sizes swapped with the axes."""
    if orientation == 1:
        return metadata
    exif, xmp, dpi = metadata.exif, metadata.xmp, metadata.dpi
    turned = orientation in (5, 6, 7, 8)
    if exif:
        tags = Image.Exif()
        tags.load(exif)
        tags[ORIENTATION_TAG] = 1
        details = tags.get_ifd(EXIF_IFD)
        if turned and PIXEL_X in details and PIXEL_Y in details:
            details[PIXEL_X], details[PIXEL_Y] = details[PIXEL_Y], details[PIXEL_X]
        exif = tags.tobytes()
    if xmp:
        xmp = re.sub(rb'(tiff:Orientation=["\'])\d', rb"\g<1>1", xmp)
        xmp = re.sub(rb"(<tiff:Orientation>\s*)\d", rb"\g<1>1", xmp)
    if dpi and turned:
        dpi = (dpi[1], dpi[0])
    return replace(metadata, exif=exif, xmp=xmp, dpi=dpi)
