"""What a file says about its pixels: profile or gamma, EXIF, XMP, resolution."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from PIL import Image

from unblur.imaging.exif import ORIENTATION, block_of, read_directory, settled

XMP_TAG, ICC_TAG = 700, 34675

# TIFF tags that describe how a file lays out its pixels, or hold other versions of them (Photoshop
# layers, sub-images); they belong to the file, not to the photo.
LAYOUT_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 317, 318, 319, 320}
    | {322, 323, 32995, 32996, 32997, 32998}
    | {324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 338, 339, 340, 341, 342, 347, 512, 513}
    | {514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 34377, 37724, XMP_TAG, ICC_TAG}
)
_RESOLUTION_TAGS = (282, 283)
_LARGEST_DPI = 65535  # what JPEG can say


@dataclass(frozen=True)
class Metadata:
    """What came with a photo, as files store it.

    exif: the block with its six-byte prefix, as JPEG stores it.
    gamma: the exponent by which values were made of light, of a PNG that tells no more.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    gamma: float | None = None

    def profile_for(self, grey: bool) -> bytes | None:
        """The colour profile, unless it is one for grey and the pixels are colours now."""
        profile = self.icc_profile
        return None if profile and profile[16:20] == b"GRAY" and not grey else profile

    def upright(self, orientation: int) -> Metadata:
        """The metadata once the pixels are turned: orientation reset, stated sizes swapped."""
        exif, xmp, dpi = self.exif, self.xmp, self.dpi
        turned = orientation in (5, 6, 7, 8)
        if exif:
            try:
                exif = settled(exif, turned)
            except ValueError:
                exif = None  # damaged: photos are worth more than it
        if xmp:
            xmp = re.sub(rb'(tiff:Orientation=["\'])\d', rb"\g<1>1", xmp)
            xmp = re.sub(rb"(<tiff:Orientation>\s*)\d", rb"\g<1>1", xmp)
        if dpi and turned:
            dpi = (dpi[1], dpi[0])
        return replace(self, exif=exif, xmp=xmp, dpi=dpi)


def metadata_of(image: Image.Image, file: BinaryIO) -> Metadata:
    """The metadata of an image that Pillow has opened from a file."""
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    dpi = info.get("dpi")
    if image.format == "TIFF":
        tags = image.getexif()
        xmp = xmp or tags.get(XMP_TAG)
        if not all(tag in tags for tag in _RESOLUTION_TAGS):
            dpi = None  # Pillow makes one up
    profile = info.get("icc_profile") or None
    return Metadata(
        icc_profile=profile,
        exif=_exif_of(image, file),
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=_plausible(dpi),
        gamma=None if profile or "srgb" in info else info.get("gamma"),
    )


def _exif_of(image: Image.Image, file: BinaryIO) -> bytes | None:
    if image.format == "TIFF":
        try:
            directory = read_directory(file, without=LAYOUT_TAGS)
        except ValueError:
            return None  # Pillow opens some that have another header
        return block_of(directory) if directory else None
    if isinstance(block := image.info.get("exif"), bytes) and block:
        return block
    # ImageMagick's way to put EXIF into PNG: three lines, then hexadecimal digits.
    profile = str(image.info.get("Raw profile type exif", ""))
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:])) or None
    except ValueError:
        return None


def _plausible(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = float(dpi[0]), float(dpi[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x <= _LARGEST_DPI and 0 < y <= _LARGEST_DPI else None


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1…8 of an opened image, 1 when it says none."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # photos are worth more than a damaged block
        return 1
    return value if value in range(1, 9) else 1
