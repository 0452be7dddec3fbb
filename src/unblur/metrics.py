"""How close a restored image is to the sharp one; images are H×W×C floats in [0, 1].

docs/measuring.md says how other projects define the same names, and what reproduces them here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating]
Variant = Literal["channels", "volume"]

METRICS = ("psnr", "ssim", "ms_ssim", "mse", "mae", "logcosh", "lpips")
DEFAULT_METRICS = METRICS[:-1]

BEST_PSNR = 100.0  # of identical images, whose PSNR has no bound

# Z. Wang et al., "Image quality assessment: from error visibility to structural similarity",
# IEEE Transactions on Image Processing 13(4), 2004.
_WINDOW, _SIGMA = 11, 1.5
_STABLE = (0.01**2, 0.03**2)
# Z. Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mse(restored: Image, sharp: Image) -> float:
    """Mean squared error."""
    return float(np.mean(np.square(np.subtract(restored, sharp, dtype=np.float64))))


def mae(restored: Image, sharp: Image) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(np.subtract(restored, sharp, dtype=np.float64))))


def logcosh(restored: Image, sharp: Image) -> float:
    """Mean of log cosh of the differences."""
    return float(np.mean(np.log(np.cosh(np.subtract(restored, sharp, dtype=np.float64)))))


def psnr(restored: Image, sharp: Image) -> float:
    """Peak signal-to-noise ratio in dB; 100 for images that are nearer than that, or identical."""
    return psnr_of_mse(mse(restored, sharp))


def psnr_of_mse(error: float) -> float:
    return float(10 * np.log10(1 / max(error, 10 ** (-BEST_PSNR / 10))))


def ssim(restored: Image, sharp: Image, variant: Variant = "channels") -> float | None:
    """Structural similarity with a Gaussian window of 11 pixels and σ 1.5; None below 11 pixels.

    variant: "channels", the mean over channels, of all places where the window fits (scikit-image
        with gaussian_weights, torchmetrics), or "volume", the window reaching over the colours
        too, edges repeated (MATLAB's ssim of an RGB array).
    """
    if min(sharp.shape[:2]) < _WINDOW:
        return None
    return _similarity(restored, sharp, variant)[0]


def ms_ssim(restored: Image, sharp: Image) -> float | None:
    """SSIM over five scales; None for images of less than 176 pixels a side."""
    if min(sharp.shape[:2]) < _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1):
        return None
    result = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS, 1):
        whole, structure = _similarity(restored, sharp, "channels")
        value = whole if scale == len(_SCALE_WEIGHTS) else structure
        result *= max(value, 0.0) ** weight
        restored, sharp = _halved(restored), _halved(sharp)
    return result


def _halved(image: Image) -> Image:
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    parts = [image[row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
    return np.mean(parts, axis=0)


def _similarity(first: Image, second: Image, variant: Variant) -> tuple[float, float]:
    """Means of SSIM and of its contrast and structure term."""
    if variant not in get_args(Variant):
        raise ValueError(f"ssim: one of {', '.join(get_args(Variant))}, not {variant!r}")
    if variant == "volume":
        return _similarity_of(first, second, variant)
    # One channel after the other: there are some ten arrays of its size.
    channels = range(first.shape[2])
    parts = [_similarity_of(first[..., [c]], second[..., [c]], variant) for c in channels]
    whole, structure = np.mean(parts, axis=0)
    return float(whole), float(structure)


def _similarity_of(first: Image, second: Image, variant: Variant) -> tuple[float, float]:
    from scipy.ndimage import gaussian_filter

    axes = (0, 1) if variant == "channels" else (0, 1, 2)
    radius = _WINDOW // 2
    inside = slice(radius, -radius) if variant == "channels" else slice(None)

    def smooth(image: Image) -> Image:
        blurred = gaussian_filter(image, _SIGMA, mode="nearest", radius=radius, axes=axes)
        return np.asarray(blurred[inside, inside])

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    variance_x = smooth(x * x) - mean_x**2
    variance_y = smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = _STABLE
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure)), float(np.mean(structure))


def luma(image: Image) -> Image:
    """ITU-R BT.601 luma in its studio range, 16/255…235/255, as MATLAB's rgb2ycbcr; H×W×1."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return (image @ weights + 16 / 255)[:, :, None]
