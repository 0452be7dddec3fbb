"""Tiles: every pixel covered, seams exact, no matter the size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unblur.inference.tiles import (
    Span,
    assemble,
    cut,
    fitting_overlap,
    plan_axis,
    plan_tiles,
    seam,
    smallest_tile,
)
from unblur.padding import padded_length, reflected_indices

sizes = st.integers(1, 700)
multiples = st.sampled_from([1, 2, 8, 16])


@settings(max_examples=300, deadline=None)
@given(
    length=st.integers(1, 5000),
    tile=st.integers(1, 900),
    overlap=st.integers(0, 60),
    multiple=multiples,
    minimum=st.sampled_from([1, 32]),
)
def test_axis_plans(length: int, tile: int, overlap: int, multiple: int, minimum: int) -> None:
    spans = plan_axis(length, tile, overlap, multiple, minimum)
    padded = padded_length(length, multiple, minimum)
    assert spans[0].start == 0
    assert spans[-1].stop == padded
    assert padded < max(length, minimum) + multiple  # never a block too many
    side = spans[0].stop
    largest = max(tile, smallest_tile(overlap, multiple) + multiple, minimum + multiple)
    assert side <= largest
    for span in spans:
        assert span.stop - span.start == side
        assert span.start % multiple == 0
        assert side % multiple == 0
    for before, after in itertools.pairwise(spans):
        assert before.stop - after.start >= 2 * overlap
    seams = [seam(*pair, overlap) for pair in itertools.pairwise(spans)]
    for (start, share), before, after in zip(seams, spans, spans[1:], strict=False):
        assert start - after.start >= 3 * overlap // 4
        assert before.stop - (start + len(share)) >= 3 * overlap // 4
    for (first, share), (second, _) in itertools.pairwise(seams):
        assert first + len(share) <= second


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, overlap=st.integers(0, 20), multiple=multiples)
def test_unchanged_tiles_assemble_to_the_image(
    height: int, width: int, overlap: int, multiple: int
) -> None:
    image = np.random.default_rng(height * 1000 + width).random((height, width, 2), np.float32)
    plan = plan_tiles(height, width, 128, overlap, multiple)
    result = np.full_like(image, np.nan)
    next_row = 0
    for start, strip in assemble(plan, lambda rows, columns: cut(image, rows, columns)):
        assert start == next_row
        next_row = start + len(strip)
        result[start:next_row] = strip
    assert next_row == height
    assert np.allclose(result, image, atol=1e-6)


@given(tile=st.integers(64, 3000), overlap=st.integers(0, 300), multiple=multiples)
def test_overlaps_fit_their_tiles(tile: int, overlap: int, multiple: int) -> None:
    fitting = fitting_overlap(tile, overlap, multiple)
    assert fitting <= overlap
    assert smallest_tile(fitting, multiple) <= tile
    assert max(span.stop for span in plan_axis(tile, tile, fitting, multiple, 1)) <= tile + multiple


def test_seams_are_monotonous_and_smooth() -> None:
    start, share = seam(Span(0, 100), Span(60, 160), 40)
    assert start == 70
    assert len(share) == 20
    assert (np.diff(share) > 0).all()
    assert np.allclose(share + share[::-1], 1, atol=1e-6)
    assert share[0] < 0.01


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 6000),
    width=st.integers(1, 6000),
    tile=st.integers(1, 1500),
    overlap=st.integers(0, 60),
    multiple=multiples,
    minimum=st.sampled_from([1, 32, 100, 700]),
)
def test_tiles_have_few_pixels_and_share_few(
    height: int, width: int, tile: int, overlap: int, multiple: int, minimum: int
) -> None:
    plan = plan_tiles(height, width, tile, overlap, multiple, minimum)
    least = max(smallest_tile(overlap, multiple), padded_length(minimum, multiple))
    area = max(tile, least) ** 2
    sides = plan.rows[0].stop, plan.columns[0].stop
    assert min(sides) >= minimum
    assert sides[0] * sides[1] <= area
    whole = [padded_length(length, multiple, minimum) for length in (height, width)]
    assert (plan.count == 1) == (whole[0] * whole[1] <= area)
    assert plan.count == 1 or sides[0] <= max(tile, least)
    square = [plan_axis(length, tile, overlap, multiple, minimum) for length in (height, width)]
    computed = len(square[0]) * square[0][0].stop * len(square[1]) * square[1][0].stop
    assert plan.count * sides[0] * sides[1] <= computed


def test_a_full_hd_frame_is_one_tile_of_the_usual_size() -> None:
    assert plan_tiles(1080, 1920, 1536, 144, 16).count == 1
    assert plan_tiles(1920, 1080, 1536, 144, 16).count == 1
    assert len(plan_tiles(2000, 3000, 1536, 144, 16).columns) == 2  # three squares otherwise


def test_one_tile_is_filled_up_no_further_than_it_must() -> None:
    plan = plan_tiles(1100, 1700, 1536, 64, 128, 160, alone=32)
    assert (plan.rows, plan.columns) == ((Span(0, 1120),), (Span(0, 1728),))
    plan = plan_tiles(90, 300, 1536, 64, 128, 160, alone=32)
    assert (plan.rows, plan.columns) == ((Span(0, 160),), (Span(0, 320),))
    plan = plan_tiles(1100, 2400, 1536, 64, 128, 160, alone=32)
    assert plan.count == 2
    assert all(span.start % 128 == span.stop % 128 == 0 for span in plan.rows + plan.columns)


def test_tiles_with_wrong_borders_leave_no_trace_outside_the_seams() -> None:
    """A network that is wrong near cut edges: with enough overlap nothing of it is seen."""
    overlap = 16
    image = np.random.default_rng(0).random((400, 500, 3), np.float32)

    def restore(rows: Span, columns: Span) -> np.ndarray:
        tile = cut(image, rows, columns).copy()
        wrong = np.ones(tile.shape[:2], bool)
        reach = overlap // 2
        top = 0 if rows.start == 0 else reach
        bottom = tile.shape[0] - (0 if rows.stop >= 400 else reach)
        left = 0 if columns.start == 0 else reach
        right = tile.shape[1] - (0 if columns.stop >= 500 else reach)
        wrong[top:bottom, left:right] = False
        tile[wrong] = 9
        return tile

    plan = plan_tiles(400, 500, 160, overlap, 1)
    assert plan.count > 4
    for start, strip in assemble(plan, restore):
        assert np.allclose(strip, image[start : start + len(strip)], atol=1e-6)


@given(length=st.integers(1, 40), start=st.integers(-90, 0), stop=st.integers(1, 130))
def test_reflection_equals_numpys(length: int, start: int, stop: int) -> None:
    values = np.arange(length)
    padded = np.pad(values, (-start, max(0, stop - length)), mode="reflect")
    assert np.array_equal(values[reflected_indices(start, stop, length)], padded[: stop - start])


def test_an_empty_axis_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        reflected_indices(0, 4, 0)
