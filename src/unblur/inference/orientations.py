"""The eight ways in which an image can be laid down: turned by right angles, and mirrored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unblur.inference.tiles import Array


class Orientation(NamedTuple):
    """Quarter turns against the clock, after it was mirrored left to right."""

    turns: int = 0
    mirrored: bool = False

    def turn(self, image: Array, axes: tuple[int, int] = (2, 3)) -> Array:
        """An image, or what belongs to places in it, in this orientation.

        axes: down and to the right; N×C×H×W unless given.
        """
        mirrored = np.flip(image, axes[1]) if self.mirrored else image
        return np.ascontiguousarray(np.rot90(mirrored, self.turns, axes))

    def turn_back(self, image: Array, axes: tuple[int, int] = (2, 3)) -> Array:
        """The inverse of `turn`."""
        turned = np.rot90(image, -self.turns, axes)
        return np.flip(turned, axes[1]) if self.mirrored else turned


ORIENTATIONS = tuple(
    Orientation(turns, mirrored) for mirrored in (False, True) for turns in range(4)
)
