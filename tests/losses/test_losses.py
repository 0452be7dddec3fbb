"""Losses against values computed by hand, their gradients, their names and their mistakes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from unblur.losses import (
    MultiScaleLoss,
    WeightedLoss,
    WeightsError,
    list_losses,
    loss_options,
)
from unblur.losses.base import create_loss
from unblur.losses.perceptual import VGGFeatures, _layers
from unblur.registry import ConfigError


def constant(value: float, side: int = 24) -> torch.Tensor:
    return torch.full((2, 3, side, side), value)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the layout of torchvision's VGG19, of random but named weights."""
    torch.manual_seed(0)
    shapes, before = {}, 3
    for name, index in _layers("vgg19").items():
        width = min(512, 64 * 2 ** (int(name[4]) - 1))
        shapes[f"features.{index}.weight"] = torch.randn(width, before, 3, 3) * 0.05
        shapes[f"features.{index}.bias"] = torch.zeros(width)
        before = width
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(shapes, path)
    return path


def test_pixel_losses_by_hand() -> None:
    first, second = constant(0.5), constant(0.2)
    expected = {
        "l1": 0.3,
        "mse": 0.09,
        "charbonnier": math.sqrt(0.09 + 1e-6),
        "logcosh": math.log(math.cosh(0.3)),
        "psnr": 10 * math.log10(0.09 + 3e-4),
    }
    for name, value in expected.items():
        assert create_loss(name)(first, second).item() == pytest.approx(value, abs=1e-5)
    large = create_loss("logcosh")(constant(500.0), constant(0.0))
    assert large.item() == pytest.approx(500 - math.log(2), rel=1e-5)


def test_edges_by_hand() -> None:
    step = constant(0.0)
    step[..., 12:] = 1.0
    # Two columns with a horizontal derivative of 4, no vertical one: means over both directions.
    value = create_loss("sobel")(step, constant(0.0)).item()
    assert value == pytest.approx(2 * 4 / 24 / 2, rel=1e-4)
    assert create_loss("sobel")(constant(0.9), constant(0.1)).item() == pytest.approx(0, abs=1e-6)


def test_fourier_by_hand() -> None:
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.random((1, 3, 8, 8), np.float32)) for _ in range(2))
    spectrum = np.fft.rfft2((first - second).numpy(), norm="ortho")
    expected = float(np.abs(spectrum).mean())
    assert create_loss("fourier")(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_structure_agrees_with_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    first = rng.random((64, 64, 3)).astype(np.float32)
    second = np.clip(first + rng.normal(0, 0.1, first.shape), 0, 1).astype(np.float32)
    expected = structural_similarity(
        first, second, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1.0,
    )  # fmt: skip
    batch = [torch.from_numpy(image.transpose(2, 0, 1).copy())[None] for image in (first, second)]
    assert 1 - create_loss("ssim")(*batch).item() == pytest.approx(expected, abs=5e-3)
    with pytest.raises(ConfigError, match="larger than 175"):
        create_loss("ms_ssim")(*batch)
    large = torch.rand(1, 3, 192, 192)
    assert create_loss("ms_ssim")(large, large).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", list_losses())
def test_zero_and_gradients(name: str, vgg_file: Path) -> None:
    options = {"weights": str(vgg_file)} if name == "perceptual" else {}
    loss = create_loss(name, **options)
    torch.manual_seed(0)
    side = 192 if name == "ms_ssim" else 32
    sharp = torch.rand(1, 3, side, side)
    restored = (sharp + 0.1 * torch.randn_like(sharp)).clamp(0, 1).requires_grad_(True)
    blurred = [sharp] if loss.sees_blurred else []
    value = loss(restored, sharp, *blurred)
    value.backward()
    assert restored.grad is not None
    assert torch.isfinite(restored.grad).all()
    assert restored.grad.abs().sum() > 0
    same = loss(sharp, sharp, *blurred).item()
    assert same < value.item()
    if name not in ("psnr", "charbonnier"):
        assert same == pytest.approx(0, abs=1e-4)


def test_weighted_sums() -> None:
    loss = WeightedLoss({"l1": 2.0, "mse": {"weight": 0.5}, "sobel": 0})
    total, terms = loss(constant(0.5), constant(0.2), constant(0.3))
    assert set(terms) == {"l1", "mse"}
    assert total.item() == pytest.approx(2 * 0.3 + 0.5 * 0.09, abs=1e-6)
    # In [−1, 1] only losses that are defined for [0, 1] are converted.
    symmetric = WeightedLoss({"l1": 1.0, "psnr": 1.0}, (-1.0, 1.0))
    _, terms = symmetric(constant(0.5), constant(-0.1), constant(0.1))
    assert terms["l1"].item() == pytest.approx(0.6, abs=1e-6)
    assert terms["psnr"].item() == pytest.approx(10 * math.log10(0.09 + 3e-4), abs=1e-4)


def test_only_what_is_lost_is_harm() -> None:
    loss = WeightedLoss({"harm": {"floor": 1e-4}}, (-1.0, 1.0))

    def harm(*errors: float) -> float:
        """Of what a pair of images became: (restored, blurred), (restored, blurred)."""
        restored, blurred = (
            torch.cat([constant(2 * error) for error in errors[of::2]]) for of in (0, 1)
        )
        return loss(restored, torch.zeros_like(restored), blurred)[0].item()

    assert harm(0.02, 0.1) == 0
    lost = 10 * math.log10((0.01 + 1e-4) / (0.0004 + 1e-4))
    assert harm(0.1, 0.02) == pytest.approx(lost, abs=1e-4)
    # One image gains what the other loses, and the mean is not 0.
    assert harm(0.1, 0.02, 0.02, 0.1) == pytest.approx(lost / 2, abs=1e-4)
    # A sharp image is not to be touched, as far as that shows.
    assert harm(0.1, 0.0) == pytest.approx(10 * math.log10(101), abs=1e-3)


def test_the_floor_falls() -> None:
    loss = WeightedLoss({"psnr": {"floor": 1e-2, "last_floor": 1e-4}})
    values = []
    for share in (0.0, 0.5, 1.0):
        loss.set_progress(share)
        values.append(loss(constant(0.5), constant(0.5), constant(0.2))[0].item())
    assert values == pytest.approx([-20, -30, -40], abs=1e-3)


def test_scales() -> None:
    loss = MultiScaleLoss(WeightedLoss({"l1": 1.0}))
    outputs = [constant(0.5, side) for side in (6, 12, 24)]
    total, terms = loss(outputs, constant(0.2), constant(0.3))
    assert total.item() == pytest.approx(0.15, abs=1e-6)
    assert terms["l1"].item() == pytest.approx(0.3, abs=1e-6)


def test_features(vgg_file: Path) -> None:
    assert _layers("vgg19")["conv4_4"] == 25
    assert _layers("vgg16")["conv3_3"] == 14
    network = VGGFeatures("vgg19", "conv4_4", vgg_file)
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_features_are_never_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not be fetched.*--losses\.perceptual\.weights"):
        create_loss("perceptual")
    assert not list(tmp_path.rglob("*.pth"))
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("bad", "other", "absent"):
        with pytest.raises(WeightsError, match=name):
            create_loss("perceptual", weights=str(tmp_path / f"{name}.pth"))


def test_mistakes() -> None:
    for config, message in (
        ({"l2": 1.0}, "unknown loss 'l2'.*Valid: charbonnier"),
        ({"charbonnier": {"eps": 1}}, "unknown option of charbonnier 'eps'"),
        ({"l1": 0}, "no loss with a weight"),
        ({}, "no loss with a weight"),
        ({"l1": "much"}, "must be a number"),
        ({"charbonnier": {"epsilon": -1}}, "must be positive"),
        ({"perceptual": {"layer": "conv9_9", "weights": "x"}}, "unknown layer of vgg19"),
    ):
        with pytest.raises(ConfigError, match=message):
            WeightedLoss(config)
    assert loss_options("charbonnier") == {"epsilon": 1e-3}
