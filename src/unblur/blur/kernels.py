"""Blur kernels as small arrays: odd sides, float32, non-negative, summing to one."""

from __future__ import annotations

import math
from functools import reduce
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from unblur.blur.errors import BlurError

Kernel = NDArray[np.float32]
# The point of a path that the sharp photo shows in its place: see `shake_kernel`.
Centre = Literal["centroid", "box", "middle"]
_SUPERSAMPLING = 8
_LARGEST_SIDE = 1025  # of a kernel from a file
_SWAY_STEPS = 100


def _normalized(kernel: NDArray[np.floating]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)


def gaussian_kernel(
    sigma: float, size: int | None = None, ratio: float = 1.0, angle: float = 0.0
) -> Kernel:
    """Gaussian of standard deviation `sigma` in pixels along its longer axis.

    size: the odd side of the kernel; by default it reaches three sigma to each side.
    ratio: shorter axis over longer one, in (0, 1]; 1 is round.
    angle: direction of the longer axis in degrees, counter-clockwise from the horizontal.
    Raises BlurError for a negative sigma, an even size or a ratio out of range.
    """
    if sigma < 0:
        raise BlurError(f"sigma must not be negative, got {sigma}")
    if not 0 < ratio <= 1:
        raise BlurError(f"ratio must be in (0, 1], got {ratio}")
    if size is None:
        size = 2 * math.ceil(3 * sigma) + 1
    if size < 1 or size % 2 == 0:
        raise BlurError(f"the size of a kernel must be odd and positive, got {size}")
    offsets = np.arange(size) - size // 2
    if sigma == 0:
        line = (offsets == 0).astype(float)
        return _normalized(np.outer(line, line))
    if ratio == 1:
        line = np.exp(-0.5 * (offsets / sigma) ** 2)
        return _normalized(np.outer(line, line))
    direction = math.radians(angle)
    across, down = np.meshgrid(offsets, offsets)
    along = across * math.cos(direction) - down * math.sin(direction)
    aside = across * math.sin(direction) + down * math.cos(direction)
    # The narrow axis keeps a tenth of a pixel, so that the central value never vanishes.
    narrow = max(sigma * ratio, 0.1)
    return _normalized(np.exp(-0.5 * ((along / sigma) ** 2 + (aside / narrow) ** 2)))


def pillow_gaussian_kernel(radius: float) -> Kernel:
    """The kernel of Pillow's `ImageFilter.GaussianBlur(radius)`: three extended box blurs.

    After P. Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
    filtering", SSVM 2011. Pillow also rounds to 8 bits between passes, which this does not.
    """
    if radius < 0:
        raise BlurError(f"radius must not be negative, got {radius}")
    variance = radius**2 / 3  # of each of three passes
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    edge = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    edge /= 6 * (variance - (whole + 1) ** 2)
    box = np.concatenate([[edge], np.ones(2 * whole + 1), [edge]])
    line = reduce(np.convolve, [box / box.sum()] * 3)
    return _normalized(np.outer(line, line))


def _supersampled(reach: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, y) of 8 × 8 points in each pixel of a kernel; y points down."""
    side = (2 * reach + 1) * _SUPERSAMPLING
    fine = (np.arange(side) + 0.5) / _SUPERSAMPLING - (2 * reach + 1) / 2
    return fine[None, :], fine[:, None]


def _coverage(inside: NDArray[np.bool_]) -> Kernel:
    side = inside.shape[0] // _SUPERSAMPLING
    blocks = inside.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING)
    return _normalized(blocks.mean(axis=(1, 3)))


def defocus_kernel(radius: float) -> Kernel:
    """The image of a point out of focus through a round aperture: a disc of `radius` pixels.

    Its rim is anti-aliased by 8 × 8 supersampling, so the radius need not be whole.
    """
    if radius < 0:
        raise BlurError(f"radius must not be negative, got {radius}")
    x, y = _supersampled(math.ceil(radius))
    return _coverage(x**2 + y**2 <= max(radius, 0.5) ** 2)


def aperture_kernel(radius: float, blades: int, angle: float = 0.0) -> Kernel:
    """The same through a diaphragm of straight blades: a regular polygon.

    radius: of the circle around it, in pixels. angle: by which it is turned, in degrees.
    """
    if radius < 0 or blades < 3:
        raise BlurError(f"needs a radius ≥ 0 and at least 3 blades, got {radius} and {blades}")
    x, y = _supersampled(math.ceil(radius))
    sector = 2 * math.pi / blades
    from_corner = np.mod(np.arctan2(-y, x) - math.radians(angle), sector) - sector / 2
    distance = np.hypot(x, y) * np.cos(from_corner)
    return _coverage(distance <= max(radius, 0.71) * math.cos(sector / 2))


def _trace(x: NDArray[np.float64], y: NDArray[np.float64]) -> Kernel:
    """Points of equal light around the origin, splatted with bilinear weights; y points down."""
    reach = math.ceil(max(np.abs(x).max(), np.abs(y).max())) + 1
    side = 2 * reach + 1
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - column, y - row
    kernel = np.zeros((side, side))
    for dy, row_weight in ((0, 1 - down), (1, down)):
        for dx, column_weight in ((0, 1 - right), (1, right)):
            np.add.at(kernel, (row + reach + dy, column + reach + dx), row_weight * column_weight)
    return _without_empty_rim(_normalized(kernel))


def _without_empty_rim(kernel: Kernel) -> Kernel:
    """The kernel with rows and columns of zeros removed, as far as its centre stays central."""
    used = np.argwhere(kernel > 0) - np.array(kernel.shape) // 2
    reach = np.abs(used).max()
    centre = kernel.shape[0] // 2
    return kernel[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]


def motion_kernel(length: float, angle: float = 0.0) -> Kernel:
    """Straight, even motion over `length` pixels.

    angle: in degrees, counter-clockwise from the horizontal.
    """
    if length < 0:
        raise BlurError(f"length must not be negative, got {length}")
    way = np.linspace(-length / 2, length / 2, max(2, math.ceil(16 * length)))
    direction = math.radians(angle)
    return _trace(way * math.cos(direction), -way * math.sin(direction))


def shake_kernel(
    rng: np.random.Generator,
    extent: float,
    exposure: float = 1.0,
    shakiness: float | None = None,
    frames: int | None = None,
    softness: float = 0.0,
    centre: Centre = "centroid",
    steps: int = 256,
) -> Kernel:
    """The path of a hand-held camera's shake, seen by the sensor during the exposure.

    A particle's velocity performs a random walk, is pulled back to the centre and is sometimes
    thrown round by an impulsive shake; its trace is splatted with bilinear weights. Its speed
    is even.
    After G. Boracchi and A. Foi, "Modeling the performance of image restoration from motion
    blur", IEEE Transactions on Image Processing 21(8), 2012.

    rng: the source of every random draw.
    extent: the larger side of the exposed path's bounding box, in pixels.
    exposure: the share of the path that is recorded, in (0, 1]; short ones are nearly straight.
    shakiness: 0 (a smooth sweep) … 1 (nervous); drawn at random when None.
    frames: the exposure is the mean of so many video frames, each exposed for half of the time
        until the next; None for one exposure without gaps.
    softness: sigma in pixels of a Gaussian by which lens and sensor soften the path.
    centre: what lies on the kernel's central pixel: the centroid of its light, so that blurring
        does not shift the picture; the middle of the box around what is exposed, nearly as
        published kernels have it; or where the path is in the middle of the exposure, as in data
        sets whose sharp image is the middle frame (of an odd number of frames).
    Raises BlurError for values out of range and a centre that is none of these.
    """
    if not 0 < exposure <= 1:
        raise BlurError(f"exposure must be in (0, 1], got {exposure}")
    anxiety = 0.3 * (rng.random() if shakiness is None else shakiness)
    pull = 0.7 * rng.random() / steps
    impulse_probability = 2.0 * rng.random() * anxiety / steps
    speed = 1.0 / steps
    velocity = speed * np.exp(2j * np.pi * rng.random())
    jitter = rng.standard_normal((steps, 2)) @ np.array([1.0, 1j]) * (anxiety * speed)
    impulses = rng.random(steps) < impulse_probability
    position = 0j
    path = np.empty(steps, complex)
    for step in range(steps):
        path[step] = position
        if impulses[step]:
            velocity += 2 * velocity * np.exp(1j * (np.pi + rng.random() - 0.5))
        velocity += jitter[step] - pull * position
        velocity *= speed / (abs(velocity) or 1.0)
        position += velocity
    recorded = max(2, round(exposure * steps))
    start = int(rng.integers(0, steps - recorded + 1))
    return _exposed(path[start : start + recorded], extent, frames, softness, centre)


def sway_kernel(
    rng: np.random.Generator,
    extent: float,
    smoothness: float = 0.3,
    frames: int | None = None,
    softness: float = 0.0,
    centre: Centre = "centroid",
) -> Kernel:
    """The path of a camera that sways: like those that were measured, bright where it turns.

    Across and down it follows a Gaussian process of time with a Matérn covariance (ν = 5/2), so
    that it slows down and speeds up.
    After C. J. Schuler et al., "Learning to deblur", IEEE Transactions on Pattern Analysis and
    Machine Intelligence 38(7), 2016.

    smoothness: the time over which the motion is alike, as a share of the exposure, in
        [0.05, 10]; 0.3 in the paper, 1 and more is one sweep.
    The others are those of `shake_kernel`. Raises BlurError for values out of range.
    """
    if not 0.05 <= smoothness <= 10:
        raise BlurError(f"smoothness must be between 0.05 and 10, got {smoothness}")
    moments = np.linspace(0, 1, _SWAY_STEPS)
    apart = math.sqrt(5) * np.abs(moments[:, None] - moments) / smoothness
    covariance = (1 + apart + apart**2 / 3) * np.exp(-apart)
    # What is added keeps the matrix positive definite in floating point.
    root = np.linalg.cholesky(covariance + 1e-11 * np.eye(_SWAY_STEPS))
    path = root @ rng.standard_normal((_SWAY_STEPS, 2)) @ np.array([1.0, 1j])
    return _exposed(path, extent, frames, softness, centre)


def require_centre(centre: str) -> None:
    """Raise BlurError unless it is one of `Centre`."""
    if centre not in get_args(Centre):
        raise BlurError(f"centre is one of {', '.join(get_args(Centre))}, got {centre!r}")


def _exposed(
    path: NDArray[np.complex128],
    extent: float,
    frames: int | None,
    softness: float,
    centre: Centre,
) -> Kernel:
    """The light that a point leaves while it goes along positions equally far apart in time."""
    require_centre(centre)
    if not 0 <= extent < math.inf or (frames is not None and frames < 2):
        raise BlurError(f"needs an extent ≥ 0 and at least 2 frames, got {extent} and {frames}")
    box = max(np.ptp(path.real), np.ptp(path.imag), 1e-9)
    scaled = path * (extent / box)
    # Samples closer than a third of a pixel, where it is fastest, leave no gaps in the trace;
    # several fall into each frame.
    fastest = 3 * np.abs(np.diff(scaled)).max() * (len(path) - 1)
    count = max(len(path), 12 * extent, fastest, 16 * (frames or 0))
    moments = np.linspace(0, 1, math.ceil(count))
    if frames is not None:
        moments = moments[(moments * (frames - 0.5)) % 1 <= 0.5]
    times = np.arange(len(path))
    trace = np.interp(moments * (len(path) - 1), times, scaled)
    match centre:
        case "centroid":
            origin = trace.mean()
        case "box":
            real, imag = trace.real, trace.imag
            origin = complex(real.min() + real.max(), imag.min() + imag.max()) / 2
        case "middle":
            origin = np.interp((len(path) - 1) / 2, times, scaled)
    trace = trace - origin
    kernel = _trace(trace.real, trace.imag)
    return convolve_kernels(kernel, gaussian_kernel(softness)) if softness > 0 else kernel


def convolve_kernels(first: Kernel, second: Kernel) -> Kernel:
    """The kernel that does at once what two do one after the other."""
    rows, columns = (a + b - 1 for a, b in zip(first.shape, second.shape, strict=True))
    product = np.fft.rfft2(first, (rows, columns)) * np.fft.rfft2(second, (rows, columns))
    return _normalized(np.maximum(np.fft.irfft2(product, (rows, columns)), 0))


def read_kernel(path: Path) -> Kernel:
    """A kernel from a .npy array or from the grey values of a .png picture.

    It is made odd-sided by a row or column of zeros and normalized. Raises BlurError for files
    that are no kernel: not two-dimensional, negative, empty, not finite or over 1025 pixels.
    """
    try:
        if path.suffix.lower() == ".npy":
            stored = np.lib.format.open_memmap(path, mode="r")  # refuses pickles and short files
            if max(stored.shape, default=0) > _LARGEST_SIDE:
                raise ValueError(f"is larger than {_LARGEST_SIDE} pixels")
            values = np.array(stored, np.float64)
        else:
            with PillowImage.open(path) as picture:
                if max(picture.size) > _LARGEST_SIDE:
                    raise ValueError(f"is larger than {_LARGEST_SIDE} pixels")
                values = np.asarray(picture.convert("F"), np.float64)
    except (OSError, ValueError, PillowImage.DecompressionBombError) as error:
        raise BlurError(f"{path}: is no kernel ({error})") from error
    if values.ndim != 2 or max(values.shape, default=0) > _LARGEST_SIDE:
        raise BlurError(f"{path}: a kernel has two sides of at most {_LARGEST_SIDE} pixels")
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or values.sum() <= 0:
        raise BlurError(f"{path}: a kernel's values are not negative and not all zero")
    return _normalized(np.pad(values, [(0, 1 - side % 2) for side in values.shape]))
