"""How steady a restored clip is, and making it steadier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

_STILL = 4 / 255  # where two blurred frames differ by less, nothing moves
_SMOOTHING = 0.7  # of the last change that a still place takes over
_EVERY = 2  # of the rows and columns that are measured


class Flicker:
    """How much still places change from frame to frame, blurred and restored.

    Where nothing moves, two frames differ by noise alone; a restoration that makes them differ
    more flickers. It is the mean absolute difference of successive frames over still pixels.
    """

    def __init__(self) -> None:
        self._last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._sums = np.zeros(2)
        self._count = 0

    def add(self, blurred: Pixels, restored: Pixels) -> None:
        """One more frame, H×W×3 uint8 or uint16, and what became of it."""
        now = _green(blurred), _green(restored)
        if self._last is not None and self._last[0].shape == now[0].shape:
            changes = [np.abs(a - b) for a, b in zip(now, self._last, strict=True)]
            still = changes[0] < _STILL
            self._count += int(still.sum())
            self._sums += [float(change[still].sum()) for change in changes]
        self._last = now

    @property
    def levels(self) -> tuple[float, float] | None:
        """(blurred, restored) in 8-bit levels; None where nothing stood still."""
        if not self._count:
            return None
        before, after = 255 * self._sums / self._count
        return float(before), float(after)


def _green(pixels: Pixels) -> NDArray[np.float32]:
    part = pixels[::_EVERY, ::_EVERY, 1].astype(np.float32)
    return part / np.float32(np.iinfo(str(pixels.dtype)).max)


class Steadier:
    """Lets the restoration's change follow the last frame's where nothing moves.

    A recursive filter of the change, not of the picture: what moves is not smeared, and nothing
    becomes less sharp than it was restored.
    """

    def __init__(self) -> None:
        self._last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __call__(self, blurred: Pixels, restored: Pixels) -> Pixels:
        """The restored frame, steadied."""
        white = np.float32(np.iinfo(str(blurred.dtype)).max)
        given = blurred.astype(np.float32)
        change = restored.astype(np.float32) - given
        if self._last is not None and self._last[0].shape == given.shape:
            moved = np.abs(given - self._last[0]).max(axis=2, keepdims=True)
            weight = _SMOOTHING * np.exp(-np.square(moved / (white * np.float32(_STILL))))
            change += weight * (self._last[1] - change)
        self._last = given, change
        return np.rint(np.clip(given + change, 0, white)).astype(blurred.dtype)
