"""Global averages, recorded on one image and replayed on its parts."""

from __future__ import annotations

import pytest
import torch

from unblur.models import create_model
from unblur.models.deploy import DeployedModel
from unblur.models.statistics import InstanceNorm, StatisticsTape, use_tape


def test_instance_norm_on_tape_equals_torchs() -> None:
    norm = InstanceNorm(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(1, 5, 20, 30) * 3 + 7
    with use_tape(StatisticsTape()):
        taped = norm(x)
    assert torch.allclose(taped, norm(x), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light_unet", {"start_filters": 4}),
        (
            "nafnet",
            {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        ),
    ],
)
def test_replayed_statistics_make_parts_agree_with_the_whole(name: str, options: dict) -> None:
    torch.manual_seed(1)
    network = create_model(name, **options)
    for parameter in network.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    model = DeployedModel(network)
    assert model.statistics > 0
    x = torch.rand(1, 3, 64, 512)
    x[..., 256:] *= 0.3  # halves whose own averages differ
    one = torch.tensor(1.0)
    with torch.no_grad():
        whole, statistics = model(x)
        alone = model(x[..., :256])[0]
        replayed = model(x[..., :256], statistics, one)[0]
        unweighted = model(x[..., :256], statistics, torch.tensor(0.0))[0]
    far = slice(0, 96)  # away from the cut
    expected = whole[..., far]
    assert (replayed[..., far] - expected).abs().max() < 2e-2 * (
        alone[..., far] - expected
    ).abs().max()
    assert torch.equal(unweighted, alone)


def test_local_networks_have_no_statistics() -> None:
    model = DeployedModel(create_model("unet16", width=4))
    assert model.statistics == 0
    assert len(model(torch.rand(1, 3, 16, 16))) == 1


def test_signed_networks_are_deployed_on_unit_range() -> None:
    network = create_model("rednet30", variant="wgan").eval()
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        (restored,) = DeployedModel(network)(x)
        assert torch.allclose(restored, (network(x * 2 - 1) + 1) / 2, atol=1e-6)
