"""Files ⇄ pixels: `read_photo` and `write_photo`, and the `Photo` between them."""

from unblur.imaging.compare import comparison
from unblur.imaging.errors import ImageError
from unblur.imaging.formats import (
    FORMATS,
    PHOTO_EXTENSIONS,
    Format,
    format_of,
    output_format,
    parse_format,
    stem_of,
)
from unblur.imaging.metadata import Metadata
from unblur.imaging.photo import Photo, Pixels
from unblur.imaging.reading import (
    DEFAULT_MAX_PIXELS,
    allow_large_photos,
    check_photo,
    probe_size,
    read_photo,
    register_heif,
)
from unblur.imaging.writing import encode_photo, require_writable, write_photo

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FORMATS",
    "PHOTO_EXTENSIONS",
    "Format",
    "ImageError",
    "Metadata",
    "Photo",
    "Pixels",
    "allow_large_photos",
    "check_photo",
    "comparison",
    "encode_photo",
    "format_of",
    "output_format",
    "parse_format",
    "probe_size",
    "read_photo",
    "register_heif",
    "require_writable",
    "stem_of",
    "write_photo",
]
