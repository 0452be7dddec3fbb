"""What a model made of a photo at half its size, laid on the photo at its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.inference.tiles import Array, Span
from unblur.padding import reflected_indices

_STRIP = 256  # rows that are halved at once


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """H×W×C → ⌈H/2⌉×⌈W/2⌉×C of the same type: means of 2 × 2 pixels, of fewer at odd edges."""
    height, width, channels = pixels.shape
    half = np.empty((-(-height // 2), -(-width // 2), channels), pixels.dtype)
    for top in range(0, len(half), _STRIP):
        rows = pixels[2 * top : 2 * (top + _STRIP)].astype(np.float32)
        rows = np.pad(rows, ((0, len(rows) % 2), (0, width % 2), (0, 0)), "edge")
        means = rows[::2, ::2] + rows[::2, 1::2] + rows[1::2, ::2] + rows[1::2, 1::2]
        means *= np.float32(0.25)
        if np.issubdtype(pixels.dtype, np.integer):
            means = np.rint(means)
        half[top : top + _STRIP] = means
    return half


class Draft:
    """half: a photo of height × width at half its size; restored: what the model made of that."""

    def __init__(self, height: int, width: int, half: NDArray[Any], restored: NDArray[Any]) -> None:
        self._height, self._width = height, width
        self._half, self._restored = half, restored

    def change(self, rows: Span, columns: Span) -> Array:
        """By how much values change in a part of the photo, mirrored where that reaches past it.

        C×H×W. Between the pixels at half the size it is interpolated linearly.
        """
        down, across = _Between(rows, self._height), _Between(columns, self._width)
        place = down.seen, across.seen
        change = self._restored[place].astype(np.float32) - self._half[place].astype(np.float32)
        planes = np.ascontiguousarray(change.transpose(2, 0, 1))
        return across.interpolated(down.interpolated(planes, axis=1), axis=2)


class _Between:
    """Where the pixels of a span lie along an axis with half as many.

    seen: those of the half that are needed for them.
    """

    def __init__(self, span: Span, length: int) -> None:
        places = reflected_indices(span.start, span.stop, length)
        nearest = places // 2
        next_nearest = np.clip(nearest + np.where(places % 2, 1, -1), 0, (length - 1) // 2)
        least = min(nearest.min(), next_nearest.min())
        self.seen = slice(int(least), int(max(nearest.max(), next_nearest.max())) + 1)
        self._nearest, self._next_nearest = nearest - least, next_nearest - least

    def interpolated(self, seen: Array, axis: int) -> Array:
        values, others = seen.take(self._nearest, axis), seen.take(self._next_nearest, axis)
        values *= np.float32(0.75)
        others *= np.float32(0.25)
        values += others
        return values
