"""Before/after pictures: one image, divided in the middle, with labels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unblur.imaging.metadata import Metadata
from unblur.imaging.photo import Photo, Pixels, to_eight_bit

_LONGEST_SIDE = 2400


def comparison(before: Photo, after: Photo) -> Photo:
    """Before and after side by side, each whole, with a divider between and a label on each.

    Photos wider than high are put one above the other. Large ones are reduced so that the picture
    stays at most 2400 pixels long, but for the divider.
    """
    left, right = _panel(before.pixels), _panel(after.pixels)
    stacked = left.width > left.height
    columns, rows = (1, 2) if stacked else (2, 1)
    scale = min(1.0, _LONGEST_SIDE / max(left.width * columns, left.height * rows))
    size = (max(1, round(left.width * scale)), max(1, round(left.height * scale)))
    if scale < 1:
        left = left.resize(size, Image.Resampling.LANCZOS)
        right = right.resize(size, Image.Resampling.LANCZOS)
    gap = max(2, round(max(size) / 300))
    if stacked:
        canvas = Image.new("RGB", (size[0], 2 * size[1] + gap), "white")
        place = (0, size[1] + gap)
    else:
        canvas = Image.new("RGB", (2 * size[0] + gap, size[1]), "white")
        place = (size[0] + gap, 0)
    canvas.paste(left, (0, 0))
    canvas.paste(right, place)
    metadata = Metadata(icc_profile=before.metadata.profile_for(grey=False))
    _label(canvas, (0, 0), "before", size)
    _label(canvas, place, "after", size)
    return Photo(np.asarray(canvas), format="JPEG", metadata=metadata)


def _panel(pixels: Pixels) -> Image.Image:
    return Image.fromarray(to_eight_bit(pixels)).convert("RGB")


def _label(canvas: Image.Image, corner: tuple[int, int], text: str, size: tuple[int, int]) -> None:
    height = max(12, min(40, max(size) // 40))
    if min(size) < 4 * height:
        return  # on a tiny picture a label would hide it
    font = ImageFont.load_default(height)
    draw = ImageDraw.Draw(canvas, "RGBA")
    x, y = corner[0] + height // 2, corner[1] + height // 2
    box = draw.textbbox((x, y), text, font=font)
    pad = height // 3
    draw.rounded_rectangle(
        (box[0] - pad, box[1] - pad, box[2] + pad, box[3] + pad), radius=pad, fill=(0, 0, 0, 150)
    )
    draw.text((x, y), text, font=font, fill="white")
