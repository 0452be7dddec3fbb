"""Every registered network: exact size, any image size, a gradient for every parameter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unblur.models import ConfigError, RestorationModel, create_model, list_models, model_options
from unblur.models.analysis import count_parameters, count_running_statistics

# Small configurations of the same architectures, for tests that run them often.
LIGHT = {
    "deblur_net": {},
    "late_fusion_unet": {"refine_depth": 1},
    "light_unet": {"start_filters": 4},
    "ms_deblur_net": {"num_blocks": 1},
    "nafnet": {
        "width": 4,
        "encoder_blocks": [1, 2],
        "middle_blocks": 1,
        "decoder_blocks": [1, 1],
    },
    "plain_cnn": {"width": 8, "depth": 2},
    "plain_resnet": {"width": 8, "num_blocks": 2},
    "rednet30": {},
    "res_unet": {},
    "resnet16": {},
    "standard_unet": {},
    "unet16": {"width": 8},
    "unshuffle_unet": {"widths": [4, 6, 8], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]},
    "wiener_unet": {
        "widths": [4, 6],
        "encoder_blocks": [1, 1],
        "decoder_blocks": [1],
        "window": 64,
        "reach": 8,
        "edge_widths": [4, 6],
        "edge_blocks": [1, 1],
        "maps": 1,
        "head": 8,
        "head_blocks": 2,
        "guesses": 2,
    },
}

# (name, options, trained parameters, with BatchNorm's running statistics), from the publications.
PUBLISHED = [
    ("light_unet", {}, 6_754_302, 6_754_302),
    ("standard_unet", {}, 28_480_003, 28_480_003),
    ("late_fusion_unet", {}, 10_577_667, 10_577_667),
    ("late_fusion_unet", {"refine_depth": 6}, 10_614_595, 10_614_595),
    ("deblur_net", {}, 1_331_459, 1_331_459),
    ("res_unet", {}, 971_715, 972_739),
    ("resnet16", {}, 7_360_402, 7_366_034),
    ("unet16", {}, 482_067, 482_067),
    ("rednet30", {}, 1_076_739, 1_080_579),
    ("rednet30", {"variant": "wgan"}, 1_076_739, 1_080_579),
    ("ms_deblur_net", {}, 11_928_961, 11_943_553),
    ("ms_deblur_net", {"num_blocks": 5}, 3_311_233, 3_315_073),
    ("patchgan_critic", {}, 2_766_657, 2_766_657),
    ("nafnet", {}, 17_111_907, 17_111_907),
    ("unshuffle_unet", {}, 2_182_140, 2_182_140),
    ("wiener_unet", {}, 7_850_073, 7_850_073),
]


def perturbed(name: str, **options: object) -> torch.nn.Module:
    """A network whose zero-initialised parameters are random too: nothing is switched off."""
    torch.manual_seed(0)
    model = create_model(name, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.05)
    return model


def test_the_light_configurations_cover_every_restoration_network() -> None:
    assert {*LIGHT, "patchgan_critic"} == set(list_models())


@pytest.mark.parametrize(("name", "options", "trained", "with_statistics"), PUBLISHED)
def test_parameter_counts(name: str, options: dict, trained: int, with_statistics: int) -> None:
    model = create_model(name, **options)
    assert count_parameters(model) == trained
    assert trained + count_running_statistics(model) == with_statistics


def test_light_unet_without_norm_has_biases_and_no_norm() -> None:
    model = create_model("light_unet", norm=None)
    names = [name for name, _ in model.named_parameters()]
    assert not any("norm" in name for name in names)
    assert "enc1.conv.depthwise.bias" in names
    assert "enc1.conv.pointwise.bias" in names


@pytest.mark.parametrize("name", sorted(LIGHT))
@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 2))
def test_any_size(name: str, height: int, width: int, batch: int) -> None:
    model = perturbed(name, **LIGHT[name]).eval()
    with torch.no_grad():
        restored = model(torch.rand(batch, 3, height, width))
    assert restored.shape == (batch, 3, height, width)
    assert torch.isfinite(restored).all()


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = perturbed(name, **LIGHT[name]).train()
    model(torch.rand(2, 3, 48, 48)).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unshuffle_unet", {"gated_levels": 2, "confidence": True}),
        ("unshuffle_unet", {"factor": 4, "confidence": True}),
        ("unshuffle_unet", {"modulated": True}),
        ("late_fusion_unet", {"width": 8}),
        ("res_unet", {"width": 8}),
        ("rednet30", {"width": 8}),
    ],
)
def test_options_change_the_network_and_nothing_else(name: str, options: dict) -> None:
    model = perturbed(name, **{**LIGHT[name], **options}).train()
    image = torch.rand(2, 3, 43, 38)
    restored = model(image)
    assert restored.shape == image.shape
    restored.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("options", [{"factor": 3}, {"gated_levels": 9}])
def test_levels_that_cannot_be(options: dict) -> None:
    with pytest.raises(ConfigError, match="unshuffle_unet"):
        create_model("unshuffle_unet", **options)


def test_every_critic_parameter_gets_a_gradient_and_scores_are_per_image() -> None:
    critic = create_model("patchgan_critic")
    scores = critic(torch.rand(3, 3, 40, 56) * 2 - 1)
    assert scores.shape == (3,)
    scores.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in critic.parameters())


@pytest.mark.parametrize("name", ["light_unet", "standard_unet", "unshuffle_unet"])
def test_fresh_residual_networks_are_the_identity(name: str) -> None:
    x = torch.rand(1, 3, 33, 47)
    model = create_model(name).eval()
    with torch.no_grad():
        assert torch.equal(model(x), x)


@pytest.mark.parametrize(
    ("name", "least"), [("resnet16", 38), ("unet16", 20), ("plain_cnn", 20), ("rednet30", 20)]
)
def test_others_begin_near_a_copy(name: str, least: float, scene: np.ndarray) -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(scene[200:328, 300:428].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        error = (create_model(name).eval()(x) - x).square().mean()
    assert -10 * float(error.log10()) > least


def test_the_signal_survives_without_norm(scene: np.ndarray) -> None:
    x = torch.from_numpy(scene[200:328, 300:428].copy()).permute(2, 0, 1)[None] / 255
    model = create_model("light_unet", start_filters=16, norm=None)
    assert isinstance(model.output, torch.nn.Module)
    seen = []
    model.output.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        model(x)
    assert 0.1 < float(seen[0].std((2, 3)).mean()) < 5


def test_wgan_generators_stay_in_their_range() -> None:
    for name, options in (("rednet30", {"variant": "wgan"}), ("ms_deblur_net", {"num_blocks": 1})):
        model = create_model(name, **options).eval()
        assert model.value_range == (-1.0, 1.0)
        with torch.no_grad():
            assert model(torch.rand(1, 3, 20, 20) * 2 - 1).abs().max() <= 1


def test_ms_deblur_net_gives_three_scales() -> None:
    scales = create_model("ms_deblur_net", num_blocks=1).scales(torch.rand(1, 3, 32, 48))
    assert [tuple(scale.shape[-2:]) for scale in scales] == [(8, 12), (16, 24), (32, 48)]


def test_nafnet_layer_norm_sums_in_float32() -> None:
    from unblur.models.nafnet import LayerNorm2d

    x = torch.full((1, 64, 2, 2), 300.0, dtype=torch.float16)
    x[:, ::2] = -300.0
    normalized = LayerNorm2d(64).half()(x)  # 64 · 300² is far beyond fp16's 65504
    assert torch.allclose(normalized.float().abs(), torch.ones(1), atol=1e-2)


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'nafnet'.*light_unet"):
        create_model("nafnett")
    with pytest.raises(ConfigError, match="refine_depth"):
        create_model("late_fusion_unet", refine=3)
    with pytest.raises(ConfigError, match="'instance' or None"):
        create_model("light_unet", norm="batch")
    for width in (0, -1):
        with pytest.raises(ConfigError, match="nafnet cannot be built with width"):
            create_model("nafnet", width=width)
    for wrong in ("abc", 1.5, [1], True):
        with pytest.raises(ConfigError, match="width takes a whole number"):
            create_model("unet16", width=wrong)
    with pytest.raises(ConfigError, match="unet16 cannot be built with width=0"):
        create_model("unet16", width=0)
    assert model_options("late_fusion_unet") == {"refine_depth": 5, "width": 64}


def test_restoration_networks_say_what_sizes_they_accept() -> None:
    for name, options in LIGHT.items():
        model = create_model(name, **options).eval()
        assert isinstance(model, RestorationModel)
        side = max(model.min_size, model.size_multiple)
        with torch.no_grad():
            assert model.restore(torch.rand(1, 3, side, side)).shape == (1, 3, side, side)


LITTLE = {"widths": [4, 8, 12], "encoder_blocks": [1, 1, 2], "decoder_blocks": [1, 1]}


@pytest.mark.parametrize(
    "larger",
    [
        LITTLE,
        {**LITTLE, "widths": [6, 8, 20]},
        {**LITTLE, "encoder_blocks": [2, 1, 5], "decoder_blocks": [1, 3]},
        {"widths": [8, 16, 24], "encoder_blocks": [2, 2, 4], "decoder_blocks": [2, 2]},
        {**LITTLE, "widths": [6, 8, 12], "modulated": True},
    ],
)
@pytest.mark.parametrize("gated_levels", [0, 1])
def test_a_network_that_grew_restores_as_before_and_learns(larger: dict, gated_levels: int) -> None:
    torch.manual_seed(0)
    trained = create_model("unshuffle_unet", **LITTLE, gated_levels=gated_levels)
    torch.nn.init.normal_(trained.output.weight, std=0.1)
    grown = create_model("unshuffle_unet", **larger, gated_levels=gated_levels)
    if gated_levels and larger["widths"][-1] != LITTLE["widths"][-1]:
        with pytest.raises(ConfigError, match="gated levels"):
            grown.begin_with(trained)
        return
    grown.begin_with(trained)
    photo = torch.rand(2, 3, 40, 48)
    assert not torch.allclose(trained(photo), photo, atol=1e-3)
    assert torch.allclose(grown(photo), trained(photo), atol=1e-5)
    optimizer = torch.optim.Adam(grown.parameters(), lr=1e-3)
    for _ in range(3):  # what nothing read from before gets a gradient in the second step
        optimizer.zero_grad()
        (grown(photo) - 0.5).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in grown.parameters())


def test_a_modulated_network_grows() -> None:
    torch.manual_seed(0)
    trained = create_model("unshuffle_unet", **LITTLE, modulated=True)
    for weights in (*trained.scales.parameters(), trained.output.weight):
        torch.nn.init.normal_(weights, std=0.1)
    grown = create_model("unshuffle_unet", **LITTLE | {"widths": [6, 9, 20]}, modulated=True)
    grown.begin_with(trained)
    photo = torch.rand(2, 3, 40, 48)
    assert torch.allclose(grown(photo), trained(photo), atol=1e-5)
    plain = create_model("unshuffle_unet", **LITTLE)
    with pytest.raises(ConfigError, match="more, or other"):
        plain.begin_with(trained)


@pytest.mark.parametrize(
    ("smaller", "said"),
    [
        ({"widths": [4, 6, 12]}, "more, or other"),
        ({"encoder_blocks": [1, 1, 1]}, "more, or other"),
        ({"widths": [4, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1]}, "number of levels"),
        ({"factor": 4}, "another factor"),
    ],
)
def test_a_network_does_not_shrink(smaller: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_model("unshuffle_unet", **LITTLE | smaller).begin_with(
            create_model("unshuffle_unet", **LITTLE)
        )
