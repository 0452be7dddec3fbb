"""Before and after in a notebook: a picture with a divider that can be moved."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.imaging import Photo, comparison, read_photo
from unblur.imaging.photo import to_eight_bit

_LARGEST = 1600  # pixels of the longer side that are put into the notebook
_EXACT = 300_000  # pixels; larger pictures are put there as JPEG
_STYLE = (
    "position:relative;display:inline-block;max-width:100%;line-height:0;overflow:hidden;"
    "border-radius:6px"
)


class Comparison:
    """Two pictures of one size; notebooks show them one above the other, with a slider.

    `picture` has them side by side, for everything else.
    """

    def __init__(self, before: Photo, after: Photo) -> None:
        if (before.width, before.height) != (after.width, after.height):
            raise ValueError(
                f"before is {before.width}×{before.height}, after {after.width}×{after.height}: "
                "only pictures of one size can be compared"
            )
        self._before, self._after = before, after

    @property
    def picture(self) -> Image.Image:
        """Both side by side, with labels."""
        return Image.fromarray(comparison(self._before, self._after).pixels)

    def _repr_html_(self) -> str:
        before, after = (_address(photo) for photo in (self._before, self._after))
        move = (
            "this.previousElementSibling.style.clipPath="
            "'inset(0 0 0 '+this.value+'%)'"
        )  # fmt: skip
        image = "display:block;max-width:100%;margin:0"
        return (
            f'<div style="{_STYLE}">'
            f'<img alt="before" src="{before}" style="{image}">'
            f'<img alt="after" src="{after}" '
            f'style="{image};position:absolute;left:0;top:0;width:100%;clip-path:inset(0 0 0 50%)">'
            f'<input type="range" min="0" max="100" value="50" aria-label="divider" '
            f'oninput="{html.escape(move)}" '
            'style="position:absolute;left:0;bottom:4px;width:100%;margin:0">'
            "</div>"
        )


def compare(before: Any, after: Any) -> Comparison:
    """Show what `deblur` made of an image: `unblur.compare(image, unblur.deblur(image))`.

    Both are a path, the bytes of a file, a PIL image, or an array H×W(×3) of uint8, uint16 or
    float in [0, 1]. Raises ValueError for sizes that differ, ImageError for unreadable files.
    """
    return Comparison(_photo(before), _photo(after))


def _photo(image: Any) -> Photo:
    if isinstance(image, str | Path):
        return read_photo(image)
    if isinstance(image, bytes | bytearray):
        return read_photo(bytes(image))
    if isinstance(image, Image.Image) and image.mode.startswith("I;16"):
        return Photo(np.asarray(image).astype(np.uint16))  # in the machine's order of bytes
    if isinstance(image, Image.Image):
        return Photo(np.asarray(image if image.mode == "L" else image.convert("RGB")))
    pixels: NDArray[Any] = np.asarray(image)
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]
    if pixels.ndim not in (2, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an array of {pixels.dtype} and shape {pixels.shape} is no image")
    return Photo(pixels)


def _address(photo: Photo) -> str:
    picture = Image.fromarray(to_eight_bit(photo.pixels))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "PNG" if picture.width * picture.height < _EXACT else "JPEG"
    picture.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
