"""Blur: kernels that sum to one, convolution that equals SciPy's definition, an honest camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unblur.blur import (
    add_noise,
    blur_photo,
    compress,
    convolve,
    defocus_kernel,
    gaussian_kernel,
    linear_to_srgb,
    shake_kernel,
    srgb_to_linear,
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), extent=st.floats(1, 40), exposure=st.floats(0.01, 1))
def test_shake_kernels(seed: int, extent: float, exposure: float) -> None:
    kernel = shake_kernel(np.random.default_rng(seed), extent, exposure)
    again = shake_kernel(np.random.default_rng(seed), extent, exposure)
    assert np.array_equal(kernel, again)
    side = kernel.shape[0]
    assert kernel.shape == (side, side)
    assert side % 2 == 1
    assert side <= 2 * extent + 7
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    y, x = np.mgrid[:side, :side] - side // 2
    assert abs((kernel * y).sum()) < 0.02
    assert abs((kernel * x).sum()) < 0.02


@given(radius=st.floats(0, 12))
def test_defocus_kernels(radius: float) -> None:
    kernel = defocus_kernel(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    if radius >= 2:
        assert kernel.max() == pytest.approx(1 / (np.pi * radius**2), rel=0.05)


def test_gaussian_kernels() -> None:
    kernel = gaussian_kernel(1.0, 7)
    assert kernel.shape == (7, 7)
    assert kernel[3, 4] / kernel[3, 3] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert gaussian_kernel(0).tolist() == [[1]]
    with pytest.raises(ValueError, match="odd"):
        gaussian_kernel(1, 4)
    with pytest.raises(ValueError, match="negative"):
        gaussian_kernel(-1)


def test_convolution_by_definition() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((9, 11, 3), np.float32)
    kernel = rng.random((3, 5)).astype(np.float32)
    padded = np.pad(image, ((1, 1), (2, 2), (0, 0)), mode="reflect")
    expected = np.zeros_like(image)
    for y in range(3):
        for x in range(5):
            expected += kernel[::-1, ::-1][y, x] * padded[y : y + 9, x : x + 11]
    assert np.allclose(convolve(image, kernel), expected, atol=1e-5)
    assert np.allclose(convolve(image, kernel, "valid"), expected[1:-1, 2:-2], atol=1e-5)
    with pytest.raises(ValueError, match="smaller than"):
        convolve(image[:2], kernel, "valid")


def test_blur_keeps_brightness_and_does_not_wrap(scene: np.ndarray) -> None:
    photo = (scene / 255).astype(np.float32)
    kernel = shake_kernel(np.random.default_rng(3), 21)
    blurred = blur_photo(photo, kernel)
    assert srgb_to_linear(blurred).mean() == pytest.approx(srgb_to_linear(photo).mean(), rel=2e-3)
    flat = np.full((40, 50, 3), 0.3, np.float32)
    assert np.allclose(blur_photo(flat, kernel), 0.3, atol=1e-5)
    half = np.zeros((60, 60, 3), np.float32)
    half[:, :30] = 1  # bright left edge, dark right edge: wrap-around would mix them
    assert blur_photo(half, kernel)[:, -5:].max() < 1e-3


@given(value=st.floats(0, 1))
def test_transfer_curves_are_inverse(value: float) -> None:
    array = np.full((1, 1, 1), value, np.float32)
    assert linear_to_srgb(srgb_to_linear(array))[0, 0, 0] == pytest.approx(value, abs=1e-5)


def test_noise_statistics() -> None:
    flat = np.full((200, 200, 3), 0.25, np.float32)
    noisy = add_noise(flat, np.random.default_rng(0), read=0.01, shot=0.0004)
    assert noisy.mean() == pytest.approx(0.25, abs=2e-4)
    assert noisy.std() == pytest.approx(np.sqrt(0.01**2 + 0.0004 * 0.25), rel=0.02)


def test_jpeg(scene: np.ndarray) -> None:
    photo = (scene / 255).astype(np.float32)
    good, bad = (np.abs(compress(photo, "JPEG", q) - photo).mean() for q in (95, 20))
    assert 0 < good < bad < 0.1
