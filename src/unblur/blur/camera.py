"""What a camera adds to the light it records: noise and compression."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage


def add_noise(
    image: NDArray[np.float32],
    rng: np.random.Generator,
    read_sigma: float,
    shot_gain: float = 0.0,
) -> NDArray[np.float32]:
    """Signal-independent plus signal-dependent sensor noise, both Gaussian.

    The variance at value v is read_sigma² + shot_gain·v: the usual Gaussian approximation of
    Poisson shot noise. Values stay unclipped; image and sigma are in units of full scale.
    """
    deviation = np.sqrt(read_sigma**2 + shot_gain * np.clip(image, 0, 1)).astype(np.float32)
    noise = rng.standard_normal(image.shape, np.float32)
    return (image + noise * deviation).astype(np.float32)


def compress_jpeg(image: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    """Write and read an H×W×3 image in [0, 1] as JPEG of the given quality (1…100)."""
    buffer = io.BytesIO()
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(PillowImage.open(buffer), np.float32) / np.float32(255)
