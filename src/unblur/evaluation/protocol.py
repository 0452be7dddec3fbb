"""The rules of a measurement, named in every result: `full`, `center-crop:256+y+border:4` …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur import metrics
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.lpips import Lpips
from unblur.metrics import Image, Variant

PROTOCOL_HELP = (
    "full (whole images, rounded to 8 bits, RGB), center-crop:256 or patches:3x4 (rows x columns, "
    "each restored alone); joined by + with float (not rounded), y (luma only), border:4 (pixels "
    "left out), volume (SSIM over colours too), shift:4 (best shift of up to so many pixels)."
)


@dataclass(frozen=True)
class Protocol:
    """How a restored image is compared with the sharp one.

    crop: side of the centre crop that is cut out before restoring; None for whole images.
    patches: rows and columns that images are cut into before restoring.
    rounded: whether values are rounded to 8 bits, as a saved file has them.
    luma: compare only the luma. border: pixels left out at each edge. ssim: which variant.
    shift: captured pairs are not aligned exactly: restored and input are each compared at the
        best whole-pixel shift of at most so many pixels, and so many are left out at each edge.
    """

    crop: int | None = None
    patches: tuple[int, int] | None = None
    rounded: bool = True
    luma: bool = False
    border: int = 0
    ssim: Variant = "channels"
    shift: int = 0

    @property
    def name(self) -> str:
        """What `parse_protocol` reads back."""
        words = ["full"]
        if self.crop is not None:
            words = [f"center-crop:{self.crop}"]
        if self.patches is not None:
            words = [f"patches:{self.patches[0]}x{self.patches[1]}"]
        if not self.rounded:
            words.append("float")
        if self.luma:
            words.append("y")
        if self.border:
            words.append(f"border:{self.border}")
        if self.ssim == "volume":
            words.append("volume")
        if self.shift:
            words.append(f"shift:{self.shift}")
        return "+".join(words)

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of an image that is restored and compared. Raises EvaluationError."""
        if self.crop is None:
            return image
        height, width = image.shape[:2]
        if min(height, width) < self.crop:
            raise EvaluationError(f"{width}×{height} is smaller than the crop of {self.crop}")
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return image[top : top + self.crop, left : left + self.crop]

    def measure(
        self,
        image: Image,
        sharp: NDArray[np.uint8],
        names: Sequence[str],
        lpips: Lpips | None = None,
    ) -> dict[str, float | None]:
        """The metrics of an H×W×3 image of floats against the 8-bit sharp one."""
        if image.shape != sharp.shape:
            raise EvaluationError(
                f"is {image.shape[1]}×{image.shape[0]}, the sharp image "
                f"{sharp.shape[1]}×{sharp.shape[0]}"
            )
        if not np.isfinite(image).all():
            raise EvaluationError("came out with values that are no numbers")
        first: Image = np.clip(image, 0, 1).astype(np.float64)
        if self.rounded:
            first = np.rint(first * 255) / 255
        second: Image = sharp / 255
        if self.border:
            if min(sharp.shape[:2]) <= 2 * self.border:
                raise EvaluationError(f"nothing is left inside a border of {self.border}")
            inside = slice(self.border, -self.border)
            first, second = first[inside, inside], second[inside, inside]
        if self.shift:
            first, second = aligned(first, second, self.shift)
        colours = first, second
        if self.luma:
            first, second = metrics.luma(first), metrics.luma(second)
        error = metrics.mse(first, second)
        values: dict[str, float | None] = {}
        for name in names:
            match name:
                case "psnr":
                    values[name] = metrics.psnr_of_mse(error)
                case "mse":
                    values[name] = error
                case "ssim":
                    values[name] = metrics.ssim(first, second, self.ssim)
                case "ms_ssim":
                    values[name] = metrics.ms_ssim(first, second)
                case "mae":
                    values[name] = metrics.mae(first, second)
                case "logcosh":
                    values[name] = metrics.logcosh(first, second)
                case "lpips" if lpips is not None:
                    values[name] = lpips(*colours)
        return values


def aligned(image: Image, sharp: Image, most: int) -> tuple[Image, Image]:
    """Both without `most` pixels at each edge, the image at its best whole-pixel shift."""
    height, width = sharp.shape[:2]
    if min(height, width) <= 2 * most:
        raise EvaluationError(f"is too small to be shifted by {most} pixels")
    target = sharp[most:-most, most:-most]

    def shifted(down: int, right: int) -> Image:
        top, left = most + down, most + right
        return image[top : top + target.shape[0], left : left + target.shape[1]]

    def error(place: tuple[int, int]) -> float:
        return metrics.mse(shifted(*place), target)

    span = range(-most, most + 1)
    # Of equally good ones the smallest.
    places = sorted(((d, r) for d in span for r in span), key=lambda p: abs(p[0]) + abs(p[1]))
    return shifted(*min(places, key=error)), target


def parse_protocol(text: str) -> Protocol:
    """A protocol from its name. Raises EvaluationError that says what is possible."""
    settings: dict[str, Any] = {}
    for position, word in enumerate(text.removeprefix("+").split("+")):
        key, _, value = word.strip().partition(":")
        settings |= _setting(key, value, position, text)
    return Protocol(**settings)


def _setting(key: str, value: str, position: int, text: str) -> Mapping[str, Any]:
    try:
        match key:
            case "full" if position == 0 and not value:
                return {}
            case "center-crop" if position == 0:
                return {"crop": _count(value or "256")}
            case "patches" if position == 0:
                rows, columns = value.lower().replace("×", "x").split("x")
                return {"patches": (_count(rows), _count(columns))}
            case "float" if not value:
                return {"rounded": False}
            case "y" if not value:
                return {"luma": True}
            case "volume" if not value:
                return {"ssim": "volume"}
            case "border" | "shift":
                return {key: _count(value)}
    except ValueError:
        pass
    raise EvaluationError(f"protocol '{text}': '{key}' is not understood; write {PROTOCOL_HELP}")


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise ValueError
    return number
