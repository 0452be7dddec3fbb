"""What a file says about its pixels: profile or gamma, EXIF, XMP, resolution."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

ORIENTATION_TAG = 0x0112
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
XMP_TAG, ICC_TAG = 700, 34675
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003

# TIFF tags that describe how a file lays out its pixels, or hold other versions of them (Photoshop
# layers, sub-images); they belong to the file, not to the photo.
LAYOUT_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 318, 319, 320, 322, 323}
    | {324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 338, 339, 340, 341, 342, 347, 512, 513}
    | {514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 34377, 37724, XMP_TAG, ICC_TAG}
)
_RESOLUTION_TAGS = (282, 283)
_LARGEST_DPI = 65535  # what JPEG can say


@dataclass(frozen=True)
class Metadata:
    """What came with a photo, as files store it.

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

    def exif_tags(self) -> Image.Exif:
        """The EXIF tags, parsed; empty when there are none."""
        tags = Image.Exif()
        if self.exif:
            tags.load(self.exif)
        return tags

    def upright(self, orientation: int) -> Metadata:
        """The metadata once the pixels are turned: orientation reset, stated sizes swapped."""
        if orientation == 1:
            return self
        exif, xmp, dpi = self.exif, self.xmp, self.dpi
        turned = orientation in (5, 6, 7, 8)
        if exif:
            tags = self.exif_tags()
            tags[ORIENTATION_TAG] = 1
            details = tags.get_ifd(EXIF_IFD)
            if turned and _PIXEL_X in details and _PIXEL_Y in details:
                details[_PIXEL_X], details[_PIXEL_Y] = details[_PIXEL_Y], details[_PIXEL_X]
            exif = tags.tobytes()
        if xmp:
            xmp = re.sub(rb'(tiff:Orientation=["\'])\d', rb"\g<1>1", xmp)
            xmp = re.sub(rb"(<tiff:Orientation>\s*)\d", rb"\g<1>1", xmp)
        if dpi and turned:
            dpi = (dpi[1], dpi[0])
        return replace(self, exif=exif, xmp=xmp, dpi=dpi)


def metadata_of(image: Image.Image) -> Metadata:
    """The metadata of an image that Pillow has opened."""
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    tags = image.getexif()
    dpi = info.get("dpi")
    if image.format == "TIFF":
        xmp = xmp or tags.get(XMP_TAG)
        if not all(tag in tags for tag in _RESOLUTION_TAGS):
            dpi = None  # Pillow makes one up
        tags = _only(tags, lambda nested, tag, _: nested is not None or tag not in LAYOUT_TAGS)
    profile = info.get("icc_profile") or None
    return Metadata(
        icc_profile=profile,
        exif=_as_bytes(tags) if tags else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=_plausible(dpi),
        gamma=None if profile or "srgb" in info else info.get("gamma"),
    )


def _plausible(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = float(dpi[0]), float(dpi[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x <= _LARGEST_DPI and 0 < y <= _LARGEST_DPI else None


def _as_bytes(tags: Image.Exif) -> bytes:
    """The tags as files store them, without those that hold what their kind cannot.

    Cameras and programs do write such: photos are worth more than the tag.
    """
    try:
        return tags.tobytes()
    except Exception:  # whatever a value of another type drives Pillow's writer to
        return _only(tags, _can_be_stored).tobytes()


def _can_be_stored(nested: int | None, tag: int, value: Any) -> bool:
    alone = Image.Exif()
    (alone if nested is None else alone.get_ifd(nested))[tag] = value
    try:
        alone.tobytes()
    except Exception:
        return False
    return True


def _only(tags: Image.Exif, wanted: Callable[[int | None, int, Any], bool]) -> Image.Exif:
    """The tags that are wanted by their directory (None: the main one), number and value."""
    kept = Image.Exif()
    for tag, value in tags.items():
        if tag not in (EXIF_IFD, GPS_IFD) and wanted(None, tag, value):
            kept[tag] = value
    for nested in (EXIF_IFD, GPS_IFD):
        content = tags.get_ifd(nested).items()
        if chosen := {tag: value for tag, value in content if wanted(nested, tag, value)}:
            kept.get_ifd(nested).update(chosen)
    return kept


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation 1…8 of an opened image, 1 when it says none."""
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if value in range(1, 9) else 1
