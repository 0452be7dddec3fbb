"""Reflection padding to the sizes a network accepts: the one rule that arrays and tensors share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def padded_length(length: int, multiple: int, minimum: int = 1) -> int:
    """The smallest multiple of `multiple` that is at least `length` and at least `minimum`."""
    return -(-max(length, minimum) // multiple) * multiple


def reflected_indices(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Where the positions start…stop−1 of an endlessly mirrored axis of `length` values lie in it.

    Mirrors at the first and the last value without repeating them (… 2 1 0 1 2 …), as often as
    needed, so a single pixel can be padded to any size.
    """
    if length < 1:
        raise ValueError("an empty axis cannot be padded")
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    positions = np.arange(start, stop) % period
    return np.minimum(positions, period - positions).astype(np.intp)
