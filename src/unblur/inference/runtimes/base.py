"""What every runtime offers to the engine."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unblur.inference.card import ModelCard, ModelError

Array = NDArray[np.float32]


class TileMemoryError(Exception):
    """A tile was too large for the memory; the engine tries again with smaller ones."""


class Runtime(Protocol):
    """A loaded model. Calls may come from several threads at once."""

    name: str
    device: str
    card: ModelCard

    def run(
        self, batch: Array, statistics: Array | None = None, weight: float = 1.0
    ) -> tuple[Array, Array | None]:
        """Restore N×3×H×W float32 in [0, 1], H and W as the card demands.

        For models with global statistics the batch is tiles of one photo: `statistics` (1×S)
        replaces their own averages by `weight`; the own ones (1×S) are returned too, None for
        local models. For those that survey, `statistics` is what they saw of the batch's cells
        before; without, they look for themselves. Raises TileMemoryError.
        """
        ...

    def survey(self, batch: Array) -> Array:
        """What a model that surveys sees of each cell, N×rows×columns×S.

        Raises TileMemoryError.
        """
        ...


def out_of_memory(error: Exception) -> bool:
    """Whether a runtime's error means that memory ran out; their types do not tell."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in text
        for sign in (
            "bad_alloc",
            "out of memory",
            "not enough memory",
            "failed to allocate",
            "can't allocate",
            "cannot allocate",
            "could not allocate",
        )
    )


def first_line(error: Exception) -> str:
    """What a library says first, short enough for a line of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def run_failure(card: ModelCard, error: Exception) -> TileMemoryError | ModelError:
    """The error to raise for one that a runtime raised while it ran a model."""
    if out_of_memory(error):
        return TileMemoryError(str(error))
    return ModelError(f"{card.name}: cannot run ({first_line(error)})")
