"""Blur kernels as small arrays: odd-sized, float32, non-negative, summing to one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Kernel = NDArray[np.float32]


def _normalized(kernel: NDArray[np.floating]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)


def gaussian_kernel(sigma: float, size: int | None = None) -> Kernel:
    """Isotropic Gaussian of standard deviation `sigma` in pixels.

    `size` is the odd side of the kernel; by default it reaches three sigma to each side.
    Raises ValueError for a negative sigma or an even size.
    """
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, got {sigma}")
    if size is None:
        size = 2 * math.ceil(3 * sigma) + 1
    if size < 1 or size % 2 == 0:
        raise ValueError(f"the size of a kernel must be odd and positive, got {size}")
    if sigma == 0:
        line = np.zeros(size)
        line[size // 2] = 1.0
    else:
        offsets = np.arange(size) - size // 2
        line = np.exp(-0.5 * (offsets / sigma) ** 2)
    return _normalized(np.outer(line, line))


def defocus_kernel(radius: float) -> Kernel:
    """The image of a point out of focus through a round aperture: a disc of `radius` pixels.

    Its rim is anti-aliased by 8 × 8 supersampling, so the radius need not be whole.
    """
    if radius < 0:
        raise ValueError(f"radius must not be negative, got {radius}")
    reach = math.ceil(radius)
    samples = 8
    side = 2 * reach + 1
    fine = (np.arange(side * samples) + 0.5) / samples - side / 2
    inside = fine[:, None] ** 2 + fine[None, :] ** 2 <= max(radius, 0.5) ** 2
    return _normalized(inside.reshape(side, samples, side, samples).mean(axis=(1, 3)))


def shake_kernel(
    rng: np.random.Generator,
    extent: float,
    exposure: float = 1.0,
    shakiness: float | None = None,
    steps: int = 256,
) -> Kernel:
    """The path of a hand-held camera's shake, seen by the sensor during the exposure.

    A particle's velocity performs a random walk, is pulled back to the centre and is sometimes
    thrown round by an impulsive shake; its trace is splatted with bilinear weights.
    After G. Boracchi and A. Foi, "Modeling the performance of image restoration from motion
    blur", IEEE Transactions on Image Processing 21(8), 2012.

    rng: the source of every random draw.
    extent: the larger side of the exposed path's bounding box, in pixels.
    exposure: the share of the path that is recorded, in (0, 1]; short ones are nearly straight.
    shakiness: 0 (a smooth sweep) … 1 (nervous); drawn at random when None.
    The kernel's centroid lies on its central pixel, so blurring does not shift the picture.
    """
    if not 0 < exposure <= 1:
        raise ValueError(f"exposure must be in (0, 1], got {exposure}")
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
    path = path[start : start + recorded]

    box = max(np.ptp(path.real), np.ptp(path.imag), 1e-9)
    # Samples closer than a third of a pixel leave no gaps in the trace.
    dense = np.linspace(0, recorded - 1, max(recorded, 2, math.ceil(12 * extent)))
    scaled = path * (extent / box)
    x = np.interp(dense, np.arange(recorded), scaled.real)
    y = np.interp(dense, np.arange(recorded), scaled.imag)
    x, y = x - x.mean(), y - y.mean()
    reach = math.ceil(max(np.abs(x).max(), np.abs(y).max())) + 1
    side = 2 * reach + 1
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - column, y - row
    kernel = np.zeros((side, side))
    for dy, row_weight in ((0, 1 - down), (1, down)):
        for dx, column_weight in ((0, 1 - right), (1, right)):
            np.add.at(kernel, (row + reach + dy, column + reach + dx), row_weight * column_weight)
    return _normalized(kernel)
