"""What a file says about its pixels: profile or gamma, EXIF, XMP, resolution."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from PIL import Image

from unblur.imaging.errors import ImageError
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
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics (ITU-T H.273)
_SRGB = {(1, 13), (1, 1), (2, 2)}  # and what says nothing
_HEAD = 65_536  # bytes of an HEIF or AVIF file that its description is looked for in


@dataclass(frozen=True)
class Metadata:
    """What came with a photo, as files store it.

    exif: the block with its six-byte prefix, as JPEG stores it.
    gamma, chromaticities: the exponent by which values were made of light, and the chunk with the
        primaries, of a PNG that has no profile.
    cicp: primaries and transfer characteristics by their numbers in ITU-T H.273, of files that name
        them, unless they are sRGB's.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    gamma: float | None = None
    chromaticities: bytes | None = None
    cicp: tuple[int, int] | None = None

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
    told = profile or "srgb" in info
    cicp, chromaticities = _named_colours(image.format, file)
    return Metadata(
        icc_profile=profile,
        exif=_exif_of(image, file),
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=_plausible(dpi),
        gamma=None if told else info.get("gamma"),
        chromaticities=None if told else chromaticities,
        cicp=cicp,
    )


def require_sdr(transfer: int, name: str) -> None:
    """Raise ImageError for transfer characteristics (ITU-T H.273) of high dynamic range."""
    if kind := _HDR.get(transfer):
        raise ImageError(
            f"{name}: is HDR ({kind}), which is not supported; convert it to SDR first"
        )


def _named_colours(
    format_: str | None, file: BinaryIO
) -> tuple[tuple[int, int] | None, bytes | None]:
    """`cicp` and `chromaticities` of Metadata, as a file says them."""
    numbers: tuple[int, ...] = ()
    chunks: dict[bytes, bytes] = {}
    place = file.tell()
    if format_ == "PNG":
        chunks = _png_chunks(file)
        numbers = tuple(chunks.get(b"cICP", b""))[:2]
    elif format_ in ("HEIF", "AVIF"):
        file.seek(0)
        described = file.read(_HEAD).partition(b"colrnclx")[2]
        numbers = struct.unpack(">2H", described[:4]) if len(described) >= 4 else ()
    file.seek(place)
    cicp = (numbers[0], numbers[1]) if len(numbers) == 2 and numbers not in _SRGB else None
    return cicp, chunks.get(b"cHRM")


def _png_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Those that tell of colours."""
    found: dict[bytes, bytes] = {}
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] in (b"cICP", b"cHRM") and length <= 32:
            found[head[4:]] = file.read(length)
            length = 0
        file.seek(length + 4, 1)
    return found


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
