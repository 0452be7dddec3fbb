"""The file formats: their extensions, and what each can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from unblur.imaging.errors import ImageError


@dataclass(frozen=True)
class Format:
    """What a file format can hold; `name` is Pillow's.

    names_colours: by their numbers in ITU-T H.273, as `Metadata.cicp` has them.
    """

    name: str
    extensions: tuple[str, ...]
    alpha: bool = False
    sixteen_bit: bool = False
    grey: bool = True
    names_colours: bool = False
    quality: int | None = None  # default quality, None where compression is lossless
    largest_side: int = 2**31 - 1

    @property
    def extension(self) -> str:
        return self.extensions[0]


FORMATS = {
    format_.name: format_
    for format_ in (
        Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), quality=95, largest_side=65500),
        Format("PNG", (".png",), alpha=True, sixteen_bit=True, names_colours=True),
        Format("TIFF", (".tif", ".tiff"), alpha=True, sixteen_bit=True),
        Format("WEBP", (".webp",), alpha=True, grey=False, quality=95, largest_side=16383),
        Format(
            "AVIF",
            (".avif",),
            alpha=True,
            grey=False,
            names_colours=True,
            quality=90,
            largest_side=65535,
        ),
        Format("BMP", (".bmp", ".dib"), alpha=True),
        Format("HEIF", (".heic", ".heif"), alpha=True, grey=False, names_colours=True, quality=90),
    )
}

# Formats that are read but not written: their photos are written as PNG.
READ_ONLY = {"GIF": (".gif",)}

_by_extension = {
    extension: name for name, format_ in FORMATS.items() for extension in format_.extensions
} | {extension: name for name, extensions in READ_ONLY.items() for extension in extensions}

PHOTO_EXTENSIONS = frozenset(_by_extension)


def format_of(path: PurePath) -> str | None:
    """The format a file's extension promises, None for an unknown one."""
    return _by_extension.get(path.suffix.lower())


def output_format(name: str) -> Format:
    """The format written for photos read as `name`."""
    return FORMATS.get(name, FORMATS["PNG"])


def stem_of(path: PurePath) -> str:
    """A file's name without a photo's extension; dots that are none stay (`photo.v1`)."""
    return path.stem if format_of(path) else path.name


def parse_format(text: str) -> Format:
    """A format named by a user: `jpg`, `.tif`, `PNG`."""
    key = text.strip().lower().lstrip(".")
    for format_ in FORMATS.values():
        if key == format_.name.lower() or f".{key}" in format_.extensions:
            return format_
    valid = ", ".join(format_.extension[1:] for format_ in FORMATS.values())
    raise ImageError(f"unknown format '{text}': choose one of {valid}")
