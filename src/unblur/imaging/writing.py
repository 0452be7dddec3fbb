"""`Photo` → files and bytes: depth, alpha, profile and metadata kept, never half-written."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unblur.files import atomic_path
from unblur.imaging.errors import ImageError
from unblur.imaging.exif import (
    BYTE,
    PREFIX,
    RATIONAL,
    SHORT,
    Directory,
    Entry,
    directory_bytes,
    read_directory,
    without_orientation,
)
from unblur.imaging.formats import Format, format_of, output_format, parse_format
from unblur.imaging.metadata import LAYOUT_TAGS, XMP_TAG, Metadata
from unblur.imaging.photo import Photo, Pixels, as_colours, to_eight_bit
from unblur.imaging.profiles import named_profile
from unblur.imaging.reading import register_heif

_RESOLUTION = (282, 283, 296)  # TIFF's XResolution, YResolution, ResolutionUnit


def write_photo(
    photo: Photo, path: Path | str, quality: int | None = None, overwrite: bool = False
) -> None:
    """Write a photo in the format that the path's extension names.

    quality: 1…100 for JPEG, WebP, AVIF and HEIC (100 is lossless for WebP), or None for the
    format's default. The file appears complete or not at all. Raises ImageError when it exists
    and `overwrite` is off, when the format is unknown, or when it cannot be written.
    """
    path = Path(path)
    format_ = parse_format(format_of(path) or path.suffix or "(none)")
    if path.exists() and not overwrite:
        raise ImageError(f"{path}: exists already; replace it with --overwrite, or overwrite=True")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(encode_photo(photo, format_, quality))
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error


def encode_photo(photo: Photo, format_: Format | None = None, quality: int | None = None) -> bytes:
    """A photo as a file's bytes, by default in the format it was read from.

    What the format cannot hold is adapted: 16 bits are rounded to 8, alpha is laid on white.
    """
    format_ = format_ or output_format(photo.format)
    require_writable(format_, photo.width, photo.height)
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.dtype == np.uint16 and not format_.sixteen_bit:
        pixels, alpha = to_eight_bit(pixels), None if alpha is None else to_eight_bit(alpha)
    if alpha is not None and not format_.alpha:
        pixels, alpha = _on_white(pixels, alpha), None
    if not format_.grey:
        pixels = as_colours(pixels)
    if format_.name == "TIFF" or pixels.dtype == np.uint16:
        return _encode_with_vips(photo, pixels, alpha, format_)
    if format_.name == "BMP" and alpha is not None:
        return _bmp_with_alpha(pixels, alpha, photo.metadata.dpi or (0, 0))
    buffer = io.BytesIO()
    image = _to_pillow(pixels, alpha)
    options = _save_options(photo, format_, quality)
    try:
        image.save(buffer, format_.name, **options)
    except OSError:
        if not options.get("progressive"):
            raise
        # Pillow has too small a buffer for progressive JPEGs of much detail.
        buffer = io.BytesIO()
        image.save(buffer, format_.name, **options | {"progressive": False})
    if format_.name == "AVIF" and photo.metadata.cicp and "icc_profile" not in options:
        return _with_avif_colours(buffer.getvalue(), photo.metadata.cicp)
    return buffer.getvalue()


def require_writable(format_: Format, width: int, height: int) -> None:
    """Raise ImageError for what a format, or this installation, cannot write."""
    if format_.name == "HEIF":
        register_heif("output")
    if max(width, height) > format_.largest_side:
        raise ImageError(
            f"{format_.name} holds at most {format_.largest_side} pixels a side, "
            f"not {width}×{height}; choose png or tif"
        )


def _on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    opacity = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    if pixels.ndim == 3:
        opacity = opacity[:, :, None]
    white = float(np.iinfo(pixels.dtype).max)
    return np.rint(pixels * opacity + white * (1 - opacity)).astype(pixels.dtype)


def _joined(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    return pixels if alpha is None else np.dstack([pixels, alpha])


def _to_pillow(pixels: Pixels, alpha: Pixels | None) -> Image.Image:
    # np.dstack of grey and alpha is H×W×2, which Pillow takes for LA.
    return Image.fromarray(np.ascontiguousarray(_joined(pixels, alpha)))


def _bmp_with_alpha(pixels: Pixels, alpha: Pixels, dpi: tuple[float, float]) -> bytes:
    """A BMP whose header says what its fourth channel is, which Pillow's does not."""
    height, width = alpha.shape
    rows = np.dstack([as_colours(pixels)[:, :, ::-1], alpha])[::-1].tobytes()
    per_metre = [round(value / 0.0254) for value in dpi]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(rows), *per_metre, 0, 0)
    header += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)  # of sRGB
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + rows


def _with_avif_colours(data: bytes, cicp: tuple[int, int]) -> bytes:
    """An AVIF file that names the primaries and the transfer of its photo; Pillow writes sRGB's."""
    before, box, rest = data.partition(b"colrnclx")
    return before + box + struct.pack(">2H", *cicp) + rest[4:] if box else data


def _profile(photo: Photo, format_: Format, grey: bool) -> bytes | None:
    """Its own, or one for the colours that it names, where a format can name none."""
    metadata = photo.metadata
    profile = metadata.profile_for(grey)
    if profile or not metadata.cicp or grey or format_.names_colours:
        return profile
    return named_profile(metadata.cicp)


def _save_options(photo: Photo, format_: Format, quality: int | None) -> dict[str, Any]:
    metadata = photo.metadata
    options: dict[str, Any] = {}
    if format_.quality is not None:
        options["quality"] = quality if quality is not None else format_.quality
    if profile := _profile(photo, format_, photo.is_grey and format_.grey):
        options["icc_profile"] = profile
    if metadata.exif and format_.name != "BMP" and not _too_long(metadata.exif, format_, 65_533):
        # Pillow would take AVIF's orientation out of the block by encoding that anew.
        avif = format_.name == "AVIF"
        options["exif"] = without_orientation(metadata.exif) if avif else metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    match format_.name:
        case "JPEG":
            options["subsampling"] = photo.encoding.get("subsampling", 0)
            options["progressive"] = photo.encoding.get("progressive", False)
        case "HEIF" if metadata.cicp and "icc_profile" not in options:
            options["color_primaries"], options["transfer_characteristics"] = metadata.cicp
        case "WEBP" if quality == 100:
            options["lossless"] = True
    if format_.name == "PNG":
        options["pnginfo"] = chunks = PngInfo()
        for kind, content in _colour_chunks(metadata):
            chunks.add(kind, content)
        if metadata.xmp:
            chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    elif metadata.xmp and format_.name != "BMP" and not _too_long(metadata.xmp, format_, 65_504):
        options["xmp"] = metadata.xmp
    return options


def _colour_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """What a PNG says of its colours besides a profile."""
    chunks = []
    if metadata.cicp:
        chunks.append((b"cICP", bytes([*metadata.cicp, 0, 1])))  # RGB of full range
    if metadata.chromaticities:
        chunks.append((b"cHRM", metadata.chromaticities))
    if metadata.gamma:
        chunks.append((b"gAMA", struct.pack(">I", round(metadata.gamma * 100_000))))
    return chunks


def _too_long(block: bytes, format_: Format, limit: int) -> bool:
    """Whether a block does not fit into a JPEG marker; the photo is worth more than the block."""
    return format_.name == "JPEG" and len(block) > limit


def _encode_with_vips(photo: Photo, pixels: Pixels, alpha: Pixels | None, format_: Format) -> bytes:
    """PNG with 16 bits, which Pillow cannot write in colour, and TIFF of any depth.

    libvips writes pixels and profile. Everything else is added here, since libvips leaves EXIF out
    of TIFF, writes XMP as Latin-1 into PNG, and invents a resolution where there is none.
    """
    import pyvips

    grey = pixels.ndim == 2
    if grey and alpha is not None and format_.name == "TIFF" and pixels.dtype == np.uint16:
        pixels, grey = as_colours(pixels), False  # few read grey with alpha
    spaces = {
        (False, np.dtype(np.uint8)): "srgb",
        (False, np.dtype(np.uint16)): "rgb16",
        (True, np.dtype(np.uint8)): "b-w",
        (True, np.dtype(np.uint16)): "grey16",
    }
    image = pyvips.Image.new_from_array(
        np.ascontiguousarray(_joined(pixels, alpha)), interpretation=spaces[grey, pixels.dtype]
    )
    if profile := _profile(photo, format_, grey):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    if format_.name == "PNG":
        data = bytes(image.pngsave_buffer(compression=6, keep="icc"))
        return _with_png_chunks(data, photo.metadata)
    data = image.tiffsave_buffer(compression="deflate", predictor="horizontal", keep="icc")
    return _with_tiff_tags(bytes(data), photo.metadata)


def _with_png_chunks(data: bytes, metadata: Metadata) -> bytes:
    """Put what a photo tells but for its profile into a PNG file, in place of what that says."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    added = b"".join(chunk(*each) for each in _colour_chunks(metadata))
    if metadata.dpi:
        per_metre = [round(value / 0.0254) for value in metadata.dpi]
        added += chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if metadata.exif:
        added += chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    if metadata.xmp:
        added += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    parts, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"IDAT" and added:
            parts, added = [*parts, added], b""
        if kind not in (b"cICP", b"cHRM", b"gAMA", b"pHYs", b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _with_tiff_tags(data: bytes, metadata: Metadata) -> bytes:
    """Put resolution, EXIF and XMP of a photo into a TIFF file.

    A new main directory, with the old entries and the new ones, is appended to the file, and the
    header is pointed to it.
    """
    added: Directory = {}
    if metadata.exif:
        with contextlib.suppress(ValueError):  # photos are worth more than a damaged block
            tags = read_directory(io.BytesIO(metadata.exif.removeprefix(PREFIX)))
            added = {tag: value for tag, value in tags.items() if tag not in LAYOUT_TAGS}
    if metadata.xmp:
        added[XMP_TAG] = Entry(BYTE, len(metadata.xmp), metadata.xmp)
    own = read_directory(io.BytesIO(data))
    merged = {tag: value for tag, value in (added | own).items() if tag not in _RESOLUTION}
    if metadata.dpi:
        x, y = (struct.pack("<II", *_fraction(value)) for value in metadata.dpi)
        inch = struct.pack("<H", 2)
        entries = (Entry(RATIONAL, 1, x), Entry(RATIONAL, 1, y), Entry(SHORT, 1, inch))
        merged |= zip(_RESOLUTION, entries, strict=True)
    order = "<" if data[:2] == b"II" else ">"
    data += bytes(len(data) % 2)
    start = struct.pack(order + "I", len(data))
    return data[:4] + start + data[8:] + directory_bytes(merged, len(data), order)


def _fraction(value: float) -> tuple[int, int]:
    return Fraction(value).limit_denominator(10_000).as_integer_ratio()
