"""What `unblur summary` says, against numbers known by hand or from the publications."""

from __future__ import annotations

import pytest
import torch

from tests.models.test_networks import LIGHT
from unblur.models import create_model
from unblur.models.analysis import needed_overlap, receptive_field, separable_cost, summarize


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("deblur_net", {}, 1 + 7 * 2),
        ("plain_cnn", {"width": 4, "depth": 3, "kernel_size": 9}, 1 + 4 * 8),
        ("plain_resnet", {"width": 4, "num_blocks": 3}, 1 + 2 * (2 + 3 * 2)),
        ("rednet30", {}, 1 + 30 * 2),
        ("light_unet", {"start_filters": 4}, None),
        ("nafnet", {"width": 4, "encoder_blocks": [1], "decoder_blocks": [1]}, None),
    ],
)
def test_receptive_field(name: str, options: dict, side: int | None) -> None:
    assert receptive_field(create_model(name, **options)) == side


def test_receptive_field_of_a_coarse_grid() -> None:
    blocks = {"encoder_blocks": [1] * 6, "decoder_blocks": [1] * 5}
    model = create_model("unshuffle_unet", widths=[4] * 6, factor=8, **blocks)
    assert model.size_multiple == 256
    assert 10 * 256 < (receptive_field(model) or 0) < 14 * 256


def test_costs_are_counted_where_nothing_is_filled_up() -> None:
    options = LIGHT["wiener_unet"]
    narrow, wide = (
        summarize(create_model("wiener_unet", **{**options, "reach": 4, "window": window}))
        for window in (64, 128)
    )
    # Its U-Nets cost what they cost, however large its windows are.
    assert narrow.sections[-1].macs_per_pixel == wide.sections[-1].macs_per_pixel
    assert narrow.sections[0].macs_per_pixel == pytest.approx(
        wide.sections[0].macs_per_pixel, rel=0.5
    )


def test_light_unet_sections_match_the_publication() -> None:
    result = summarize(create_model("light_unet"))
    found = {section.name: section for section in result.sections}
    published = {
        "enc1": 43e3,
        "enc2": 173e3,
        "enc3": 687e3,
        "enc4": 2.74e6,
        "bottleneck": 2.10e6,
        "dec4": 757e3,
        "dec3": 194e3,
        "dec2": 51e3,
        "dec1": 14e3,
        "output": 1.3e3,
    }
    assert list(found) == list(published)
    for name, parameters in published.items():
        assert found[name].parameters == pytest.approx(parameters, rel=0.01)
    assert sum(section.parameters for section in result.sections) == result.parameters
    assert result.macs_per_pixel == pytest.approx(120e3, rel=0.01)
    assert result.receptive_field is None
    assert (found["bottleneck"].channels, found["bottleneck"].scale) == (768, 1 / 16)


def test_macs_by_hand() -> None:
    result = summarize(create_model("deblur_net"))
    weights = result.parameters - (64 + 128 + 256 + 256 + 128 + 64 + 3)
    assert result.macs_per_pixel == weights  # stride 1: every weight once per pixel
    half = summarize(create_model("unet16"))
    # The 2×2 transposed convolution 128→64 multiplies at 1/8 resolution.
    assert next(s for s in half.sections if s.name == "ups.0").macs_per_pixel == 128 * 64 * 4 / 64


def test_separable_cost_by_hand() -> None:
    cost = separable_cost(create_model("light_unet"))
    assert cost is not None
    # Each: nine weights a channel plus the 1×1, against nine times the 1×1.
    assert cost.standard_parameters / cost.separable_parameters == pytest.approx(8.8, abs=0.05)
    assert separable_cost(create_model("unet16")) is None


@pytest.mark.parametrize(("shift", "needed"), [(15, 45), (9, 27), (2, 16)])
def test_needed_overlap_is_found(shift: int, needed: int) -> None:
    """A pure shift by a known distance needs exactly that much context."""
    model = create_model("plain_cnn", width=3, depth=2, kernel_size=31).eval()
    with torch.no_grad():
        for layer in (model.body[0], model.body[2], model.output):
            torch.nn.init.zeros_(layer.bias)
            torch.nn.init.zeros_(layer.weight)
            for channel in range(3):
                layer.weight[channel, channel, 15, 15 + shift] = 1  # look to the right
    image = torch.rand(1, 3, 256, 768)
    assert needed_overlap(model, lambda height, width: image) == needed
