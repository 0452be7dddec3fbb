"""`Photo` → files and bytes: depth, alpha, profile and metadata kept, never half-written."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from unblur.imaging.errors import ImageError
from unblur.imaging.formats import Format, format_of, output_format, parse_format
from unblur.imaging.metadata import EXIF_IFD, GPS_IFD, LAYOUT_TAGS
from unblur.imaging.photo import Photo, Pixels, to_eight_bit
from unblur.imaging.reading import register_heif


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
        raise ImageError(f"{path}: exists already; use --overwrite to replace it")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(encode_photo(photo, format_, quality))
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed otherwise."""
    # The name is hidden and ends in .partial, so that no listing takes it for a photo.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def encode_photo(photo: Photo, format_: Format | None = None, quality: int | None = None) -> bytes:
    """A photo as a file's bytes, by default in the format it was read from.

    What the format cannot hold is adapted: 16 bits are rounded to 8, alpha is laid on white.
    """
    format_ = format_ or output_format(photo.format)
    if format_.name == "HEIF":
        register_heif("output")
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.dtype == np.uint16 and not format_.sixteen_bit:
        pixels, alpha = to_eight_bit(pixels), None if alpha is None else to_eight_bit(alpha)
    if alpha is not None and not format_.alpha:
        pixels, alpha = _on_white(pixels, alpha), None
    if pixels.ndim == 2 and not format_.grey:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if format_.name == "TIFF" or pixels.dtype == np.uint16:
        return _encode_with_vips(photo, pixels, alpha, format_)
    buffer = io.BytesIO()
    image = _to_pillow(pixels, alpha)
    image.save(buffer, format_.name, **_save_options(photo, format_, quality))
    return buffer.getvalue()


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


def _save_options(photo: Photo, format_: Format, quality: int | None) -> dict[str, Any]:
    metadata = photo.metadata
    options: dict[str, Any] = {}
    if format_.quality is not None:
        options["quality"] = quality if quality is not None else format_.quality
    if metadata.icc_profile:
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif and format_.name != "BMP":
        options["exif"] = metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    match format_.name:
        case "JPEG":
            options["subsampling"] = photo.encoding.get("subsampling", 0)
            options["progressive"] = photo.encoding.get("progressive", False)
        case "WEBP" if quality == 100:
            options["lossless"] = True
    if metadata.xmp:
        if format_.name == "PNG":
            text = PngInfo()
            text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
            options["pnginfo"] = text
        elif format_.name in ("JPEG", "WEBP", "AVIF", "HEIF"):
            options["xmp"] = metadata.xmp
    return options


def _encode_with_vips(photo: Photo, pixels: Pixels, alpha: Pixels | None, format_: Format) -> bytes:
    """PNG with 16 bits, which Pillow cannot write in colour, and TIFF of any depth."""
    import pyvips

    metadata = photo.metadata
    spaces = {
        (False, np.dtype(np.uint8)): "srgb",
        (False, np.dtype(np.uint16)): "rgb16",
        (True, np.dtype(np.uint8)): "b-w",
        (True, np.dtype(np.uint16)): "grey16",
    }
    image = pyvips.Image.new_from_array(
        np.ascontiguousarray(_joined(pixels, alpha)),
        interpretation=spaces[pixels.ndim == 2, pixels.dtype],
    )
    if metadata.dpi:  # libvips counts in pixels per millimetre
        image = image.copy(xres=metadata.dpi[0] / 25.4, yres=metadata.dpi[1] / 25.4)
    blobs = {
        "icc-profile-data": metadata.icc_profile,
        "xmp-data": metadata.xmp,
        "exif-data": metadata.exif if format_.name == "PNG" else None,
    }
    for key, value in blobs.items():
        if value:
            image.set_type(pyvips.GValue.blob_type, key, value)
    if format_.name == "PNG":
        return bytes(image.pngsave_buffer(compression=6))
    data = image.tiffsave_buffer(compression="deflate", predictor="horizontal", resunit="inch")
    return _with_tiff_tags(bytes(data), photo)


def _with_tiff_tags(data: bytes, photo: Photo) -> bytes:
    """Add a photo's EXIF to a TIFF file, which libvips leaves out.

    The tags and their nested directories are appended to the file, and after them a new main
    directory that lists the old entries and the new ones; the header is pointed to it.
    """
    tags = photo.metadata.exif_tags()
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"

    def entries(at: int, source: bytes) -> dict[int, bytes]:
        """The 12-byte entries of the directory at a place, by tag."""
        count = int.from_bytes(source[at : at + 2], order)
        rows = (source[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count))
        return {int.from_bytes(row[:2], order): row for row in rows}

    added = TiffImagePlugin.ImageFileDirectory_v2(prefix=data[:2])
    for tag, value in tags.items():
        if tag not in LAYOUT_TAGS and tag not in (EXIF_IFD, GPS_IFD):
            added[tag] = value
    for nested in (EXIF_IFD, GPS_IFD):
        if content := tags.get_ifd(nested):
            added[nested] = dict(content)
    if not added:
        return data
    data += b"\0" * (len(data) % 2)
    block = added.tobytes(len(data))
    block += b"\0" * (len(block) % 2)
    old = entries(int.from_bytes(data[4:8], order), data)
    merged = entries(0, block) | old
    directory = len(merged).to_bytes(2, order)
    directory += b"".join(merged[tag] for tag in sorted(merged)) + bytes(4)
    start = (len(data) + len(block)).to_bytes(4, order)
    return data[:4] + start + data[8:] + block + directory
