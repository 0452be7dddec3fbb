"""What a model that surveys saw of a whole photo, told to the tiles that it restores."""

from __future__ import annotations

import numpy as np

from unblur.inference.card import ModelCard, ModelError
from unblur.inference.orientations import Orientation
from unblur.inference.tiles import Array, Span
from unblur.padding import padded_length

_DOWN_AND_RIGHT = (1, 2)  # the axes of N×rows×columns×S


class Survey:
    """Notes of every cell of a photo, for each orientation in which it is looked at.

    tiles: the parts to look at, as (rows, columns), of at most as many pixels as `tile` × `tile`,
        or of as few cells as the model accepts. No two share a cell: each is seen once, so that all
        tiles that are restored, which overlap, are told the same.
    """

    def __init__(self, card: ModelCard, height: int, width: int, tile: int) -> None:
        self._name = card.name
        self._least, self._cell, self._size = card.min_size, card.cell, card.survey
        rows, columns = (self._spans(length, tile) for length in (height, width))
        self.tiles = [(row, column) for row in rows for column in columns]
        whole = (self._cells(Span(0, spans[-1].stop)) for spans in (rows, columns))
        self._shape = (1, *(cells.stop for cells in whole), self._size)
        self._notes: dict[Orientation, Array] = {}

    def note(self, rows: Span, columns: Span, orientation: Orientation, seen: Array) -> None:
        """Write down what was seen of the tile, 1×rows×columns×S, when it was laid like this.

        Raises ModelError.
        """
        notes = self._notes.setdefault(orientation, np.empty(self._shape, np.float32))
        place = self._cells(rows), self._cells(columns)
        noted, expected = orientation.turn_back(seen, _DOWN_AND_RIGHT), notes[:, *place].shape
        if noted.shape != expected:
            raise ModelError(
                f"{self._name}: noted {noted.shape} of its cells instead of {expected}; the "
                "model is unusable"
            )
        notes[:, *place] = noted

    def of(self, rows: Span, columns: Span, orientation: Orientation) -> Array:
        """What was seen of the cells of a part, for when it is restored as it lies like this."""
        place = self._cells(rows), self._cells(columns)
        return orientation.turn(self._notes[orientation][:, *place], _DOWN_AND_RIGHT)

    def _cells(self, span: Span) -> slice:
        return slice(span.start // self._cell, span.stop // self._cell)

    def _spans(self, length: int, tile: int) -> list[Span]:
        padded = padded_length(length, self._cell, self._least)
        least = -(-self._least // self._cell)
        cells, most = padded // self._cell, max(2 * least - 1, tile // self._cell)
        parts = -(-cells // most)  # of nearly as many cells each, and so of `least` or more
        return [
            Span(cells * part // parts * self._cell, cells * (part + 1) // parts * self._cell)
            for part in range(parts)
        ]
