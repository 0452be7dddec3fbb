"""Surveys: every cell seen once, what was seen told to the right tile, however it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unblur import Deblurrer
from unblur.blur import convolve, defocus_kernel
from unblur.inference import ModelCard, ModelError
from unblur.inference.describe import synthetic_photo
from unblur.inference.models import find_model
from unblur.inference.orientations import ORIENTATIONS, Orientation
from unblur.inference.runtimes import load_runtime
from unblur.inference.survey import Survey
from unblur.inference.tiles import Span, cut
from unblur.padding import padded_length

CARD = ModelCard("c", "c", size_multiple=4, min_size=16, survey=2, cell=8)
sizes = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(16, 120), least=st.sampled_from([8, 12, 16, 24]))
def test_each_cell_is_seen_once(height: int, width: int, tile: int, least: int) -> None:
    survey = Survey(replace(CARD, min_size=least), height, width, tile)
    seen: list[tuple[int, int]] = []
    for rows, columns in survey.tiles:
        for span in (rows, columns):
            assert least <= span.stop - span.start <= max(tile, 2 * padded_length(least, 8) - 8)
            assert span.start % 8 == span.stop % 8 == 0
        seen += [
            (top, left)
            for top in range(rows.start, rows.stop, 8)
            for left in range(columns.start, columns.stop, 8)
        ]
    bottom, right = (padded_length(side, 8, least) for side in (height, width))
    assert sorted(seen) == [(y, x) for y in range(0, bottom, 8) for x in range(0, right, 8)]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_was_seen_is_told_in_place(orientation: Orientation) -> None:
    """A model that notes of each cell its upper left pixel, as the image lies."""
    height, width = 64, 88
    picture = np.random.default_rng(0).random((1, 1, height, width), np.float32)

    def part(rows: Span, columns: Span) -> np.ndarray:
        cut_out = picture[:, :, rows.start : rows.stop, columns.start : columns.stop]
        return orientation.turn(cut_out)

    def see(tile: np.ndarray) -> np.ndarray:
        corners = tile[0, 0, ::8, ::8]
        return np.stack([corners, -corners], 2)[None]

    survey = Survey(CARD, height, width, 40)
    assert len(survey.tiles) > 4
    for rows, columns in survey.tiles:
        survey.note(rows, columns, orientation, see(part(rows, columns)))
    for rows, columns in ((Span(0, 64), Span(0, 88)), (Span(8, 40), Span(48, 80))):
        told = survey.of(rows, columns, orientation)
        assert np.array_equal(told, see(part(rows, columns)))


def test_notes_of_another_size_are_refused() -> None:
    survey = Survey(CARD, 64, 88, 40)
    with pytest.raises(ModelError, match="the model is unusable"):
        survey.note(*survey.tiles[0], ORIENTATIONS[0], np.zeros((1, 2, 2, 3), np.float32))


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), which=st.sampled_from(ORIENTATIONS))
def test_orientations_are_undone(height: int, width: int, which: Orientation) -> None:
    image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    assert np.array_equal(which.turn_back(which.turn(image)), image)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize("best", [False, True])
def test_tiles_are_told_of_the_whole_photo(drafting: Path, runtime: str, best: bool) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    model = drafting.with_suffix(".safetensors") if runtime == "torch" else drafting
    # Turned images have other cells, unless their sides are multiples of these.
    height, width = (320, 416) if best else (330, 410)
    photo = synthetic_photo(height, width)[0].permute(1, 2, 0).numpy()
    whole = Deblurrer(model, runtime=runtime, tile=512, best=best).restore_pixels(photo)
    small_tiles = Deblurrer(model, runtime=runtime, tile=256, best=best)
    assert small_tiles.card.survey == 513
    shares: list[float] = []
    tiled = small_tiles.restore_pixels(photo, progress=shares.append)
    assert len(shares) > 4
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert np.abs(whole - photo).mean() > 1e-3
    # The edges of what was surveyed together are where it sees less than in the whole.
    assert np.abs(whole - tiled).mean() < 0.1 * np.abs(whole - photo).mean()
    reference = Deblurrer(drafting, runtime="onnxruntime", tile=256, best=best)
    assert np.abs(reference.restore_pixels(photo) - tiled).max() < 2e-3


@pytest.mark.slow
def test_tiles_that_are_told_the_same_agree(real_photo: np.ndarray) -> None:
    """What a survey says of the windows at the edges of its parts is not quite what it says of the
    whole photo; to what is told, tiles add no more than the card's overlap allows."""
    photo = real_photo[:1340, :2040].astype(np.float32) / np.float32(255)
    photo = convolve(photo, defocus_kernel(3)).clip(0, 1).astype(np.float32)
    height, width = photo.shape[:2]
    runtime = load_runtime(find_model("base"), "onnxruntime", "cpu", None)
    card = runtime.card
    spans = [Span(0, padded_length(side, card.grid, card.min_size)) for side in (height, width)]

    tiling = Deblurrer("base", runtime="onnxruntime")
    draft, _ = tiling._draft(photo, card.tile, None)

    def batch(rows: Span, columns: Span) -> np.ndarray:
        part = cut(photo, rows, columns)
        if draft is not None:
            change = draft.change(rows, columns).transpose(1, 2, 0)
            part = np.concatenate([part, part + change], 2)
        return np.ascontiguousarray(part.transpose(2, 0, 1))[None]

    survey, upright = Survey(card, height, width, card.tile), ORIENTATIONS[0]
    assert len(survey.tiles) > 1
    for part in survey.tiles:
        survey.note(*part, upright, runtime.survey(batch(*part)))
    whole = runtime.run(batch(*spans), survey.of(*spans, upright))[0]
    whole = whole[0].transpose(1, 2, 0)[:height, :width].clip(0, 1)
    tiled = tiling.restore_pixels(photo)
    difference = np.abs(whole - tiled) * 255
    assert 0 < np.quantile(difference, 0.999) < 0.25
    assert difference.max() < 4
