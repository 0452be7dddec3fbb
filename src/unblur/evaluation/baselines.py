"""What a reader expects beside a network: classical methods, some told the true kernel.

Each takes an H×W×3 image of floats in [0, 1] and its example, and returns the restored image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ImageFilter import UnsharpMask

from unblur.blur import Kernel, gaussian_kernel, linear_to_srgb, srgb_to_linear
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.sets import Example

Floats = NDArray[np.float32]

# Chosen on BSDS500's training photos (docs/measuring.md), never on what is evaluated.
_WIENER_BALANCE = 0.002
_ITERATIONS = 60
_BLIND_ITERATIONS = 15  # a guessed kernel amplifies its own errors
_LEAST = 3  # pixels a side, which Wiener's Laplacian and slopes need
_SMOOTHING = 5.0  # sigma in pixels: what most blurs leave
_REGISTRATION_STEPS, _FURTHEST, _UNMOVED = 12, 30, 0.02  # the latter two in pixels
_BLIND_ROUNDS, _BLIND_STEPS, _BLIND_SIDE, _BLIND_REGION = 8, 5, 15, 512


def unsharp(image: Floats, example: Example) -> Floats:
    """Unsharp mask of radius 2 and 100 %, what photo editors call sharpening (Pillow)."""
    picture = PIL.Image.fromarray(np.rint(image * 255).astype(np.uint8))
    sharpened = picture.filter(UnsharpMask(radius=2, percent=100, threshold=0))
    return np.asarray(sharpened, np.float32) / np.float32(255)


def wiener(image: Floats, example: Example) -> Floats:
    """Wiener filter with the true kernel, Laplacian regularisation (scikit-image)."""
    from skimage.restoration import wiener as restore

    return _with_kernel(
        image, example, lambda plane, kernel: restore(plane, kernel, _WIENER_BALANCE, clip=False)
    )


def richardson_lucy(image: Floats, example: Example) -> Floats:
    """Richardson–Lucy with the true kernel, 60 iterations (scikit-image)."""
    from skimage.restoration import richardson_lucy as restore

    return _with_kernel(
        image, example, lambda plane, kernel: restore(plane, kernel, _ITERATIONS, clip=False)
    )


def blind_richardson_lucy(image: Floats, example: Example) -> Floats:
    """Richardson–Lucy in turns on image and kernel, which it is not told.

    D. A. Fish et al., "Blind deconvolution by means of the Richardson-Lucy algorithm", Journal of
    the Optical Society of America A 12(1), 1995.
    """
    from scipy.signal import fftconvolve

    height, width = image.shape[:2]
    side = min(_BLIND_SIDE, (min(height, width) - 1) // 2 * 2 + 1)
    top, left = max(0, height - _BLIND_REGION) // 2, max(0, width - _BLIND_REGION) // 2
    region = image[top : top + _BLIND_REGION, left : left + _BLIND_REGION]
    blurred = region.mean(axis=2).astype(np.float64) + 1e-3
    kernel = gaussian_kernel(side / 6, side).astype(np.float64)
    sharp = blurred.copy()

    def ratio() -> NDArray[np.float64]:
        return np.asarray(blurred / np.maximum(fftconvolve(sharp, kernel, "same"), 1e-6))

    middle = side // 2
    for _ in range(_BLIND_ROUNDS):
        for _ in range(_BLIND_STEPS):
            # The correlation of image and ratio, at the few shifts that a kernel has.
            correlation = fftconvolve(ratio(), sharp[::-1, ::-1], "same")
            y, x = correlation.shape[0] // 2, correlation.shape[1] // 2
            kernel = kernel * correlation[y - middle : y + middle + 1, x - middle : x + middle + 1]
            kernel = np.maximum(kernel, 0) / max(float(kernel.sum()), 1e-12)
        for _ in range(_BLIND_STEPS):
            sharp = sharp * fftconvolve(ratio(), kernel[::-1, ::-1], "same")
            sharp = np.clip(sharp, 1e-6, 2)
    from skimage.restoration import richardson_lucy as restore

    guessed = Example(example.blurred, example.sharp, kernel.astype(np.float32), example.gamma)
    return _with_kernel(
        image, guessed, lambda plane, known: restore(plane, known, _BLIND_ITERATIONS, clip=False)
    )


def displaced(image: Floats, example: Example) -> Floats:
    """The sharp image itself, standing where the blurred one has its light.

    What perfect sharpness would score without knowing which point of the path the sharp image
    shows: moved by the kernel's centroid or, where that is not known, by the one shift at which
    the smoothed images agree best.
    """
    from scipy.ndimage import shift

    sharp = example.sharp.astype(np.float32) / np.float32(255)
    if example.kernel is not None:
        rows, columns = (np.arange(side) - side // 2 for side in example.kernel.shape)
        down = float((example.kernel.sum(1) * rows).sum())
        right = float((example.kernel.sum(0) * columns).sum())
    else:
        down, right = _displacement(image, sharp)
    if math.hypot(down, right) < _UNMOVED:
        return sharp
    return np.clip(shift(sharp, (down, right, 0), order=3, mode="mirror"), 0, 1)


def _displacement(image: Floats, sharp: Floats) -> tuple[float, float]:
    """By how much `sharp` has to move down and right to agree with `image` best, when smoothed.

    Gauss–Newton steps: B. D. Lucas and T. Kanade, "An iterative image registration technique with
    an application to stereo vision", IJCAI 1981.
    """
    from scipy.ndimage import gaussian_filter, shift

    blurred, moving = (gaussian_filter(one.mean(2), _SMOOTHING) for one in (image, sharp))
    height, width = blurred.shape
    if min(height, width) < _LEAST:
        return 0.0, 0.0
    # Near the edge, smoothing mixes in what the picture does not show.
    top, left = (max(n // 20, min(round(2 * _SMOOTHING), n // 3)) for n in (height, width))
    inside = np.s_[top : height - top, left : width - left]
    place = np.zeros(2)
    for _ in range(_REGISTRATION_STEPS):
        moved = shift(moving, place, order=1, mode="nearest")
        slopes = [-slope[inside].ravel() for slope in np.gradient(moved)]
        missing = (blurred - moved)[inside].ravel()
        place += np.linalg.lstsq(np.stack(slopes, 1), missing, rcond=None)[0]
        place = place.clip(-_FURTHEST, _FURTHEST)
    return float(place[0]), float(place[1])


@dataclass(frozen=True)
class Baseline:
    """A method without training.

    needs_kernel: whether it has to be told the true one. sees_sharp: whether it is shown the sharp
    image; the example of all others has the blurred one in its place.
    """

    restore: Callable[[Floats, Example], Floats]
    needs_kernel: bool = False
    sees_sharp: bool = False

    @property
    def is_told(self) -> bool:
        """Whether it knows more than the blurred image."""
        return self.needs_kernel or self.sees_sharp


BASELINES = {
    "unsharp": Baseline(unsharp),
    "wiener": Baseline(wiener, needs_kernel=True),
    "richardson-lucy": Baseline(richardson_lucy, needs_kernel=True),
    "blind-richardson-lucy": Baseline(blind_richardson_lucy),
    "displaced": Baseline(displaced, sees_sharp=True),
}


def _with_kernel(
    image: Floats, example: Example, restore: Callable[[Floats, Kernel], Floats]
) -> Floats:
    """Deconvolve each colour in the light that the kernel acted on, edges mirrored."""
    kernel = example.kernel
    if kernel is None:
        raise EvaluationError("the true kernel, which this method is told, is not known")
    if min(image.shape[:2]) < _LEAST:
        raise EvaluationError(f"is smaller than {_LEAST} pixels, too small to be deconvolved")
    light = _to_light(image, example.gamma)
    top, left = (min(2 * k, n - 1) for k, n in zip(kernel.shape, light.shape, strict=False))
    padded = np.pad(light, [(top, top), (left, left), (0, 0)], mode="reflect")
    # The Fourier transform takes opposite edges for neighbours: both fade to the same grey.
    share = _fading(padded.shape[0], top)[:, None] * _fading(padded.shape[1], left)
    padded = padded.mean() * (1 - share[:, :, None]) + padded * share[:, :, None]
    planes = [restore(padded[:, :, colour], kernel) for colour in range(3)]
    restored = np.stack(planes, axis=2)
    restored = restored[top : top + image.shape[0], left : left + image.shape[1]]
    return np.clip(_from_light(np.clip(restored, 0, 1), example.gamma), 0, 1).astype(np.float32)


def _fading(length: int, edge: int) -> NDArray[np.float32]:
    """1 inside, falling to 0 over the outer half of each edge."""
    outside = edge // 2
    distance = np.minimum(np.arange(length), np.arange(length)[::-1])
    share = np.clip(distance / max(outside, 1), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * share)).astype(np.float32)


def _to_light(image: Floats, gamma: float | str | None) -> Floats:
    if gamma is None:
        return image
    return srgb_to_linear(image) if isinstance(gamma, str) else image**gamma


def _from_light(light: Floats, gamma: float | str | None) -> Floats:
    if gamma is None:
        return light
    return linear_to_srgb(light) if isinstance(gamma, str) else light ** (1 / gamma)
