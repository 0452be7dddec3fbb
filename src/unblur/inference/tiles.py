"""Overlapping tiles over a photo, and the feathered seams that put them together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unblur.padding import padded_length, reflected_indices

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """One tile along one axis; positions may reach past the photo, into its mirror image."""

    start: int
    stop: int


@dataclass(frozen=True)
class TilePlan:
    """Rows × columns of equally large tiles over an image of height × width."""

    height: int
    width: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    overlap: int

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)


def smallest_tile(overlap: int, multiple: int, minimum: int = 1) -> int:
    """The least tile side, of those accepted, at which the seams of neighbours stay apart."""
    return padded_length(3 * overlap + 4 * multiple, multiple, minimum)


def fitting_overlap(tile: int, overlap: int, multiple: int) -> int:
    """The overlap that tiles of a side have room for: less than wanted in small tiles."""
    return min(overlap, max(0, (tile // multiple - 4) * multiple // 3))


def plan_axis(
    length: int, tile: int, overlap: int, multiple: int, minimum: int
) -> tuple[Span, ...]:
    """Cut an axis into equal tiles of at most `tile`, each `multiple`-aligned in place and size.

    Neighbours share at least 2·overlap positions, with the seam in their middle.
    """
    padded = padded_length(length, multiple, minimum)
    tile = max(tile // multiple * multiple, smallest_tile(overlap, multiple, minimum))
    if padded <= tile:
        return (Span(0, padded),)
    shared = padded_length(2 * overlap, multiple)
    count = -(-(padded - shared) // (tile - shared))
    side = padded_length(-(-(padded + shared * (count - 1)) // count), multiple, minimum)
    # Starts lie on the grid: of the steps between them some are one `multiple` longer than others.
    steps = (padded - side) // multiple
    starts = [steps * index // (count - 1) * multiple for index in range(count)]
    return tuple(Span(start, start + side) for start in starts)


def plan_tiles(
    height: int,
    width: int,
    tile: int,
    overlap: int,
    multiple: int,
    minimum: int = 1,
    alone: int | None = None,
) -> TilePlan:
    """The tiles for an image, of at most as many pixels as `tile` × `tile`; one if that suffices.

    That one has sides that are multiples of `alone`, where that is given.

    Of squares and of wider, flatter tiles those are taken that leave the least to be computed
    twice. Taller ones are not tried: two rows of tiles are in memory.
    """
    least = smallest_tile(overlap, multiple, minimum)
    tile = max(tile, least)

    def axis(length: int, longest: int) -> tuple[Span, ...]:
        return plan_axis(length, longest, overlap, multiple, minimum)

    whole = [padded_length(length, alone or multiple, minimum) for length in (height, width)]
    if whole[0] * whole[1] <= tile**2:
        return TilePlan(height, width, (Span(0, whole[0]),), (Span(0, whole[1]),), overlap)
    shapes, highest = [(axis(height, tile), axis(width, tile))], tile
    while len(shapes[-1][1]) > 1 and highest >= least:
        rows = axis(height, highest)
        shapes.append((rows, axis(width, tile**2 // rows[0].stop)))
        highest = rows[0].stop - multiple

    def computed(shape: tuple[tuple[Span, ...], ...]) -> int:
        return math.prod(len(spans) * spans[0].stop for spans in shape)

    rows, columns = min(shapes, key=computed)
    return TilePlan(height, width, rows, columns, overlap)


def cut(pixels: NDArray[np.generic], rows: Span, columns: Span) -> NDArray[np.generic]:
    """The pixels of a tile, H×W×C, mirrored where it reaches past the image."""
    height, width = pixels.shape[:2]
    if rows.stop <= height and columns.stop <= width:
        return pixels[rows.start : rows.stop, columns.start : columns.stop]
    y = reflected_indices(rows.start, rows.stop, height)
    x = reflected_indices(columns.start, columns.stop, width)
    return pixels[y[:, None], x[None, :]]


def seam(before: Span, after: Span, overlap: int) -> tuple[int, Array]:
    """Where the seam between two tiles starts, and the share of the second along it.

    The seam, half an `overlap` long, is the middle of the zone that both cover; what lies nearer
    than ¾ overlap to a cut edge is not used at all. The share rises as a squared half-sine,
    whose slope is zero at both ends.
    """
    zone = before.stop - after.start
    length = max(1, overlap // 2)
    margin = (zone - length) // 2
    phase = (np.arange(length, dtype=np.float32) + 0.5) / length
    return after.start + margin, np.sin(phase * (np.pi / 2)) ** 2


def assemble(
    plan: TilePlan, restore_tile: Callable[[Span, Span], Array]
) -> Iterator[tuple[int, Array]]:
    """Restore tile after tile and yield finished strips (first row, rows × width × channels).

    At no time are more than two rows of tiles in memory.
    """
    carried: Array | None = None  # rows from the seam on, of the row of tiles above
    for index, rows in enumerate(plan.rows):
        strip = _join(plan, [restore_tile(rows, columns) for columns in plan.columns])
        start = rows.start
        if carried is not None:
            start, share = seam(plan.rows[index - 1], rows, plan.overlap)
            strip = strip[start - rows.start :]
            share = share[:, None, None]
            strip[: len(share)] = carried * (1 - share) + strip[: len(share)] * share
        if index + 1 < len(plan.rows):
            next_start, share = seam(rows, plan.rows[index + 1], plan.overlap)
            cut_at = next_start - start
            carried = strip[cut_at : cut_at + len(share)]
            strip = strip[:cut_at]
        yield start, strip[: plan.height - start]


def _join(plan: TilePlan, tiles: list[Array]) -> Array:
    """One row of tiles side by side → a strip as wide as the image."""
    if len(tiles) == 1:
        return tiles[0][:, : plan.width].copy()
    strip = np.empty((tiles[0].shape[0], plan.width, tiles[0].shape[2]), np.float32)
    position, share = 0, None
    for index, (columns, tile) in enumerate(zip(plan.columns, tiles, strict=True)):
        if index + 1 < len(tiles):
            end, next_share = seam(columns, plan.columns[index + 1], plan.overlap)
            end += len(next_share)
        else:
            end, next_share = plan.width, None
        piece = tile[:, position - columns.start : end - columns.start]
        if share is None:
            strip[:, position:end] = piece
        else:
            weight = share[None, :, None]
            seam_end = position + len(share)
            strip[:, position:seam_end] *= 1 - weight
            strip[:, position:seam_end] += piece[:, : len(share)] * weight
            strip[:, seam_end:end] = piece[:, len(share) :]
        if next_share is not None:
            position, share = end - len(next_share), next_share
    return strip
