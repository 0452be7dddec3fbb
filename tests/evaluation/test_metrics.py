"""Metrics against hand-computed values and against other libraries' definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from unblur import metrics
from unblur.evaluation import EvaluationError, Protocol, parse_protocol
from unblur.evaluation.lpips import Lpips
from unblur.evaluation.protocol import aligned
from unblur.losses.perceptual import _layers
from unblur.training.restoration import psnr_of_images, ssim_of_images


@pytest.fixture(scope="module")
def pair(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A noisy and a clean photo, 203×251×3 floats in [0, 1], of 8-bit values."""
    clean = scene[:203, 300:551].astype(np.int16)
    noise = np.random.default_rng(3).normal(0, 12, clean.shape).round().astype(np.int16)
    return np.clip(clean + noise, 0, 255) / 255, clean / 255


def test_by_hand() -> None:
    first, second = np.full((20, 20, 3), 0.5), np.full((20, 20, 3), 0.4)
    assert metrics.mse(first, second) == pytest.approx(0.01)
    assert metrics.mae(first, second) == pytest.approx(0.1)
    assert metrics.psnr(first, second) == pytest.approx(20)
    assert metrics.logcosh(first, second) == pytest.approx(math.log(math.cosh(0.1)))
    # Without structure, SSIM is its luminance term.
    expected = (2 * 0.2 + 1e-4) / (0.25 + 0.16 + 1e-4)
    assert metrics.ssim(first, second) == pytest.approx(expected)
    assert metrics.ssim(first, second, "volume") == pytest.approx(expected)
    black_and_white = np.zeros((1, 2, 3))
    black_and_white[0, 1] = 1
    assert metrics.luma(black_and_white)[0, :, 0] * 255 == pytest.approx([16, 235])


def test_identical_images() -> None:
    image = np.random.default_rng(0).random((180, 190, 3))
    assert metrics.psnr(image, image) == metrics.BEST_PSNR
    assert metrics.ssim(image, image) == pytest.approx(1)
    assert metrics.ms_ssim(image, image) == pytest.approx(1)


def test_as_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    noisy, clean = pair
    expected = peak_signal_noise_ratio(clean, noisy, data_range=1)
    assert metrics.psnr(noisy, clean) == pytest.approx(expected, abs=1e-9)
    expected = structural_similarity(
        noisy, clean, channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert metrics.ssim(noisy, clean) == pytest.approx(expected, abs=1e-9)
    expected = structural_similarity(
        noisy, clean, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, win_size=3, channel_axis=-1,
    )  # fmt: skip
    assert metrics.ssim(noisy, clean) != pytest.approx(expected, abs=1e-6)


def test_volumetric_ssim(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Against the definition: a window over rows, columns and colours."""
    noisy, clean = (image[40:70, 50:80] for image in pair)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    line /= line.sum()
    window = line[:, None, None] * line[None, :, None] * line[None, None, :]
    values = []
    padded = [np.pad(image, ((5, 5), (5, 5), (5, 5)), mode="edge") for image in (noisy, clean)]
    for y, x, c in np.ndindex(noisy.shape):
        a, b = (image[y : y + 11, x : x + 11, c : c + 11] for image in padded)
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a = (window * a * a).sum() - mean_a**2
        var_b = (window * b * b).sum() - mean_b**2
        both = (window * a * b).sum() - mean_a * mean_b
        values.append(
            (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
            / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
        )  # fmt: skip
    assert metrics.ssim(noisy, clean, "volume") == pytest.approx(np.mean(values), abs=1e-9)


def test_multiscale(pair: tuple[np.ndarray, np.ndarray]) -> None:
    tensors = [torch.from_numpy(image.transpose(2, 0, 1)[None].copy()) for image in pair]
    expected = multiscale_structural_similarity_index_measure(*tensors, data_range=1.0)
    assert metrics.ms_ssim(*pair) == pytest.approx(float(expected), abs=1e-5)
    assert metrics.ms_ssim(pair[0][:175], pair[1][:175]) is None
    assert metrics.ssim(pair[0][:10], pair[1][:10]) is None


def test_as_the_validation_of_a_training(pair: tuple[np.ndarray, np.ndarray]) -> None:
    noisy, clean = pair
    unrounded = np.clip(noisy + 0.3 / 255, 0, 1)
    tensors = [
        torch.from_numpy(i.transpose(2, 0, 1)[None].astype(np.float32)) for i in (unrounded, clean)
    ]
    sharp = np.rint(clean * 255).astype(np.uint8)
    values = Protocol().measure(unrounded, sharp, ["psnr", "ssim"])
    assert values["psnr"] == pytest.approx(float(psnr_of_images(*tensors)), abs=1e-4)
    assert values["ssim"] == pytest.approx(float(ssim_of_images(*tensors)), abs=1e-4)


def test_protocols_change_what_they_say(pair: tuple[np.ndarray, np.ndarray]) -> None:
    clean = np.rint(pair[1] * 255).astype(np.uint8)
    shifted = np.clip(pair[1] + 0.2 / 255, 0, 1)
    rounded = Protocol().measure(shifted, clean, ["psnr", "mse"])
    assert rounded["psnr"] == metrics.BEST_PSNR
    exact = parse_protocol("full+float").measure(shifted, clean, ["psnr", "mse"])
    assert exact["mse"] == pytest.approx((0.2 / 255) ** 2, rel=0.02)
    edge = pair[1].copy()
    edge[:4] = 0
    assert Protocol().measure(edge, clean, ["psnr"])["psnr"] < 40
    assert parse_protocol("full+border:4").measure(edge, clean, ["psnr"])["psnr"] == 100
    # Luma does not see colours of the same brightness.
    red = pair[1].copy()
    red[..., 0] -= 0.02 / 65.481
    red[..., 1] += 0.02 / 128.553
    luma = parse_protocol("full+y+float").measure(red, clean, ["mse"])
    assert luma["mse"] < 1e-10
    with pytest.raises(EvaluationError, match="smaller than the crop"):
        parse_protocol("center-crop:256").cut(clean)
    assert parse_protocol("center-crop:100").cut(clean).shape == (100, 100, 3)
    with pytest.raises(EvaluationError, match="is 10×20, the sharp image 20×10"):
        Protocol().measure(np.zeros((20, 10, 3)), np.zeros((10, 20, 3), np.uint8), ["psnr"])


@given(st.integers(-4, 4), st.integers(-4, 4))
@settings(max_examples=15, deadline=None)
def test_shifts_are_found(down: int, right: int) -> None:
    image = np.random.default_rng(5).random((40, 50, 3))
    moved = np.roll(image, (down, right), (0, 1))
    first, second = aligned(moved, image, 4)
    assert first.shape == (32, 42, 3)
    assert np.array_equal(first, second)


@given(
    st.sampled_from(["full", "center-crop:64", "patches:3x4"]),
    st.lists(
        st.sampled_from(["float", "y", "border:4", "volume", "shift:2"]), unique=True, max_size=5
    ),
)
def test_a_protocol_is_its_name(first: str, others: list[str]) -> None:
    protocol = parse_protocol("+".join([first, *others]))
    assert parse_protocol(protocol.name) == protocol


@pytest.mark.parametrize(
    "text", ["", "whole", "center-crop:0", "center-crop:x", "patches:3", "y:1", "full+border",
             "full+full", "full:3", "full+y:2", "full+border:-1"]
)  # fmt: skip
def test_unknown_protocols(text: str) -> None:
    with pytest.raises(EvaluationError, match="not understood"):
        parse_protocol(text)


def test_lpips(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Of random features in the published layout: 0 for the same, growing with the difference."""
    torch.manual_seed(0)
    weights, before = {}, 3
    for name, index in _layers("vgg16").items():
        width = min(512, 64 * 2 ** (int(name[4]) - 1))
        weights[f"features.{index}.weight"] = torch.randn(width, before, 3, 3) / (3 * before**0.5)
        weights[f"features.{index}.bias"] = torch.zeros(width)
        before = width
    torch.save(weights, tmp_path / "vgg16.pth")
    lpips = Lpips(tmp_path / "vgg16.pth")
    noisy, clean = (image[:64, :64] for image in pair)
    half = (noisy + clean) / 2
    assert lpips(clean, clean) == 0
    assert 0 < lpips(half, clean) < lpips(noisy, clean)
    with pytest.raises(EvaluationError, match="no such file"):
        Lpips(tmp_path / "other.pth")
