"""`Photo` → files and bytes: same format, depth, alpha, profile and metadata, never half-written."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from unblur.imaging.errors import ImageError
from unblur.imaging.formats import Format, format_of, output_format, parse_format
from unblur.imaging.photo import EXIF_IFD, Photo, Pixels, to_eight_bit
from unblur.imaging.reading import register_heif

_GPS_IFD = 0x8825
_XMP_TAG, _ICC_TAG = 700, 34675


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
    if pixels.dtype == np.uint16:
        return _encode_sixteen_bit(photo, pixels, alpha, format_)
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
        case "TIFF":
            options["compression"] = "tiff_adobe_deflate"
            options.pop("exif", None)
            options["tiffinfo"] = _tiff_tags(photo)
    if metadata.xmp:
        if format_.name == "PNG":
            text = PngInfo()
            text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
            options["pnginfo"] = text
        elif format_.name in ("JPEG", "WEBP", "AVIF", "HEIF"):
            options["xmp"] = metadata.xmp
    return options


# Tags that describe the layout of a file's pixels belong to the file, not to the photo.
_LAYOUT_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325}
    | {338, 339, 347, 512, 513, 514, 529, 530, 531, 532}
)


def _tiff_tags(photo: Photo) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The EXIF tags of a photo as TIFF keeps them, its EXIF and GPS directories nested."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    if photo.metadata.exif:
        tags = Image.Exif()
        tags.load(photo.metadata.exif)
        for tag, value in tags.items():
            if tag not in _LAYOUT_TAGS and tag not in (EXIF_IFD, _GPS_IFD, _XMP_TAG, _ICC_TAG):
                directory[tag] = value
        for nested in (EXIF_IFD, _GPS_IFD):
            if content := tags.get_ifd(nested):
                directory[nested] = dict(content)
    if photo.metadata.xmp:
        directory[_XMP_TAG] = photo.metadata.xmp
        directory.tagtype[_XMP_TAG] = 1  # BYTE, as the XMP specification demands
    return directory


def _encode_sixteen_bit(
    photo: Photo, pixels: Pixels, alpha: Pixels | None, format_: Format
) -> bytes:
    import pyvips

    metadata = photo.metadata
    bands = _joined(pixels, alpha)
    image = pyvips.Image.new_from_array(
        np.ascontiguousarray(bands), interpretation="grey16" if photo.is_grey else "rgb16"
    )
    image = image.copy(
        # libvips counts in pixels per millimetre
        **({"xres": metadata.dpi[0] / 25.4, "yres": metadata.dpi[1] / 25.4} if metadata.dpi else {})
    )
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
    data = bytes(image.tiffsave_buffer(compression="deflate", predictor="horizontal"))
    return _add_tiff_tags(data, photo) if metadata.exif else data


def _add_tiff_tags(data: bytes, photo: Photo) -> bytes:
    """Give a written TIFF the photo's EXIF tags, by a new directory at the end of the file."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    for tag, value in _tiff_tags(photo).items():
        if tag not in directory:
            directory[tag] = value
    offset = len(data) + len(data) % 2
    header = data[:4] + offset.to_bytes(4, "little" if data[:2] == b"II" else "big")
    return header + data[8:].ljust(offset - 8, b"\0") + directory.tobytes(offset)


