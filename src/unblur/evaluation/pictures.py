"""Pictures of single images: input, output, target and error, whole and where it matters."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

_LONGEST = 1200  # side of the whole image in a slider
_PANEL = 300  # side of a zoomed crop
TITLES = ("input", "output", "target", "error × 4")
_ERROR_GAIN = 4.0


@dataclass(frozen=True)
class Shown:
    """One image of a result. kind: best, median or worst. row: its measures.

    before, after: the whole image, encoded as WebP. panels: zoomed crops in the order of TITLES.
    zoom: how often a pixel of the image is repeated in them.
    """

    kind: str
    row: dict[str, Any]
    before: bytes
    after: bytes
    panels: tuple[Pixels, ...]
    zoom: int

    @property
    def encoded_panels(self) -> list[tuple[str, bytes]]:
        return [
            (title, encode(Image.fromarray(panel), lossless=True))
            for title, panel in zip(TITLES, self.panels, strict=True)
        ]

    def strip(self) -> Image.Image:
        """The panels side by side with their titles, for papers and pull requests."""
        gap, head = 8, 26
        width = sum(panel.shape[1] for panel in self.panels) + gap * (len(self.panels) - 1)
        canvas = Image.new("RGB", (width, self.panels[0].shape[0] + head), "white")
        draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
        left = 0
        for title, panel in zip(self.titles(), self.panels, strict=True):
            draw.text((left + 2, 3), title, font=font, fill="black")
            canvas.paste(Image.fromarray(panel), (left, head))
            left += panel.shape[1] + gap
        return canvas

    def titles(self) -> list[str]:
        """TITLES, with the PSNR of input and output."""
        values = [self.row.get("psnr_input"), self.row.get("psnr"), None, None]
        return [
            title if value is None else f"{title}  {value:.2f} dB"
            for title, value in zip(TITLES, values, strict=True)
        ]


def show(kind: str, row: dict[str, Any], blurred: Pixels, restored: Pixels, sharp: Pixels) -> Shown:
    """Cut and encode the pictures of an image."""
    side = min(100, *sharp.shape[:2])
    top, left = _place(blurred, sharp, side)
    zoom = max(1, _PANEL // side)
    error = np.abs(restored.astype(np.float32) - sharp) * _ERROR_GAIN
    images = (blurred, restored, sharp, np.minimum(error, 255).astype(np.uint8))
    panels = tuple(
        image[top : top + side, left : left + side].repeat(zoom, 0).repeat(zoom, 1)
        for image in images
    )
    return Shown(kind, row, _whole(blurred), _whole(restored), panels, zoom)


def _place(blurred: Pixels, sharp: Pixels, side: int) -> tuple[int, int]:
    """Where the blur did most: the corner of the square whose error is largest."""
    error = np.square(blurred.astype(np.float64) - sharp).mean(axis=2)
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)


def _whole(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return encode(image)


def encode(image: Image.Image, lossless: bool = False) -> bytes:
    """As WebP, which every browser shows."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, lossless=lossless, method=4)
    return buffer.getvalue()
