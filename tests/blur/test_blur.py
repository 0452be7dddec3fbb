"""Blur: kernels that sum to one, convolution that equals SciPy's definition, an honest camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unblur.blur import (
    BlurError,
    ShakeBlur,
    add_noise,
    blur_photo,
    compress,
    convolve,
    defocus_kernel,
    gaussian_kernel,
    linear_to_srgb,
    parse_degradation,
    shake_kernel,
    srgb_to_linear,
    sway_kernel,
)
from unblur.blur.kernels import Centre, _exposed


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


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    extent=st.floats(1, 40),
    smoothness=st.floats(0.05, 10),
    frames=st.none() | st.integers(2, 15),
)
def test_sway_kernels(seed: int, extent: float, smoothness: float, frames: int | None) -> None:
    def kernel(centre: Centre) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return sway_kernel(rng, extent, smoothness, frames, centre=centre)

    for centre in get_args(Centre):
        side = kernel(centre).shape[0]
        assert side % 2 == 1
        assert side <= 2 * extent + 7
        assert kernel(centre).min() >= 0
        assert kernel(centre).sum() == pytest.approx(1, abs=1e-5)
    y, x = np.mgrid[: kernel("centroid").shape[0], : kernel("centroid").shape[0]]
    half = kernel("centroid").shape[0] // 2
    assert abs((kernel("centroid") * (y - half)).sum()) < 0.02
    assert abs((kernel("centroid") * (x - half)).sum()) < 0.02
    lit = np.argwhere(kernel("box") > 0) - kernel("box").shape[0] // 2
    assert np.abs(lit.max(0) + lit.min(0)).max() <= 1


@pytest.mark.parametrize(("centre", "origin"), [("centroid", 12), ("box", 18), ("middle", 9)])
def test_centres(centre: Centre, origin: float) -> None:
    """Of a path that speeds up, t² over 36 pixels: mean at a third, half time at a quarter."""
    path = np.linspace(0, 1, 100) ** 2 * (1 + 0j)
    kernel = _exposed(path, 36, None, 0, centre)
    lit = np.flatnonzero(kernel.sum(0) > 0) - kernel.shape[1] // 2
    assert lit.min() == pytest.approx(-origin, abs=1)
    assert lit.max() == pytest.approx(36 - origin, abs=1)


def test_sway_lingers_where_it_turns_and_smooth_ones_turn_less() -> None:
    def brightest(make: Callable[..., np.ndarray], **more: float) -> float:
        return float(np.mean([make(np.random.default_rng(s), 20, **more).max() for s in range(30)]))

    assert brightest(sway_kernel) > 2 * brightest(shake_kernel)
    lit = [
        np.mean([(sway_kernel(np.random.default_rng(s), 20, each) > 0).sum() for s in range(30)])
        for each in (0.1, 0.3, 2)
    ]
    assert lit[0] > 1.5 * lit[1] > 1.5 * 1.2 * lit[2]


def test_paths_refuse_what_they_cannot_draw() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(BlurError, match="centroid, box, middle"):
        shake_kernel(rng, 10, centre="left")  # type: ignore[arg-type]
    with pytest.raises(BlurError, match="smoothness"):
        sway_kernel(rng, 10, smoothness=0)
    for extent, frames in ((-5, None), (float("nan"), None), (10, 1)):
        with pytest.raises(BlurError, match="extent ≥ 0 and at least 2 frames"):
            sway_kernel(rng, extent, frames=frames)
    with pytest.raises(BlurError, match="centroid, box, middle"):
        ShakeBlur(10, centre="left")  # type: ignore[arg-type]
    with pytest.raises(BlurError, match="centroid, box, middle"):
        parse_degradation("sway:extent=10,centre=left")


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


def test_the_same_seed_gives_the_same_shake_as_ever() -> None:
    """Data sets are made anew from their seeds."""
    drawn = parse_degradation("shake:extent=5..30").draw(np.random.default_rng(42))
    assert drawn.records[0]["extent"] == pytest.approx(24.35, abs=0.01)


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
