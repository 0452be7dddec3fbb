"""Drafts: what a model makes of a photo at half its size, shown to it at the photo's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.inference.conftest import DRAFTING
from tests.inference.test_deblurrer import random_network
from tests.models.test_networks import LIGHT
from unblur import Deblurrer
from unblur.inference.card import ModelCard
from unblur.inference.describe import synthetic_photo
from unblur.inference.draft import Draft, halved
from unblur.inference.runtimes.onnx import read_card
from unblur.inference.tiles import Span, cut
from unblur.models import ConfigError, create_model


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    top=st.integers(0, 30),
    left=st.integers(0, 30),
    beyond=st.integers(0, 30),
)
def test_parts_are_those_of_the_whole(
    height: int, width: int, top: int, left: int, beyond: int
) -> None:
    """As torch makes images smaller and larger, whatever part is asked for."""
    rng = np.random.default_rng(0)
    photo = rng.random((height, width, 3), np.float32)
    planes = torch.from_numpy(photo).permute(2, 0, 1)[None]
    half = halved(photo)
    expected = F.avg_pool2d(planes, 2, ceil_mode=True)[0].permute(1, 2, 0).numpy()
    assert np.allclose(half, expected, atol=1e-6)
    restored = rng.random(half.shape, np.float32)
    change = torch.from_numpy(restored - half).permute(2, 0, 1)[None]
    whole = F.interpolate(change, scale_factor=2, mode="bilinear")[0].permute(1, 2, 0).numpy()
    place = Span(top, height + beyond + top), Span(left, left + 1 + beyond)
    part = Draft(height, width, half, restored).change(*place).transpose(1, 2, 0)
    assert np.allclose(part, cut(whole[:height, :width], *place), atol=1e-6)


@given(value=st.integers(0, 255), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_even_photos_stay_as_they_are(value: int, dtype: type) -> None:
    photo = np.full((601, 3, 1), value, dtype)
    half = halved(photo)
    assert half.dtype == dtype
    assert half.shape == (301, 2, 1)
    assert (half == value).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_the_engine_drafts_as_the_network_does(drafting: Path, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    assert read_card(drafting).draft == 48
    model = drafting.with_suffix(".safetensors") if runtime == "torch" else drafting
    planes = synthetic_photo(231, 309)  # whose quarter is just large enough, and odd
    network = random_network("wiener_unet", **DRAFTING)
    with torch.no_grad():
        expected = network(planes)[0].permute(1, 2, 0).clamp(0, 1).numpy()
        without = network.restore(network.padded(torch.cat([planes, planes], 1)))
    undrafted = without[0, :, :231, :309].permute(1, 2, 0).clamp(0, 1).numpy()
    assert np.abs(expected - undrafted).mean() > 1e-3  # the draft counts
    photo = planes[0].permute(1, 2, 0).numpy()
    shares: list[float] = []
    restored = Deblurrer(model, runtime=runtime).restore_pixels(photo, progress=shares.append)
    assert np.abs(restored - expected).max() < 2e-3
    assert shares == sorted(shares)
    assert shares[-1] == 1
    grey = np.repeat(photo.mean(2, keepdims=True), 3, 2)
    one = Deblurrer(model, runtime=runtime).restore_pixels(grey[:, :, 0], strength=0.5)
    three = Deblurrer(model, runtime=runtime).restore_pixels(grey, strength=0.5)
    assert np.abs(one - three.mean(2)).max() < 0.05  # drafts of grey photos are grey


def test_drafts_have_an_end() -> None:
    for draft in (-1, 1, 15):
        with pytest.raises(ConfigError, match="draft is 0 or at least 16"):
            create_model("wiener_unet", **LIGHT["wiener_unet"], draft=draft)
    with pytest.raises(ValueError, match="no end"):
        ModelCard.from_json(ModelCard("d", "wiener_unet", draft=1).to_json())


def test_tiles_are_shown_their_part_of_the_draft(drafting: Path) -> None:
    photo = synthetic_photo(330, 410)[0].permute(1, 2, 0).numpy()
    whole = Deblurrer(drafting, runtime="onnxruntime", tile=512).restore_pixels(photo)
    tiled = Deblurrer(drafting, runtime="onnxruntime", tile=256).restore_pixels(photo)
    assert np.abs(whole - tiled).mean() < 0.1 * np.abs(whole - photo).mean()
