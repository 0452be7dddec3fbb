"""Convolution of photos with blur kernels, in linear light and without wrap-around."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def srgb_to_linear(image: NDArray[np.floating]) -> Image:
    """sRGB code values in [0, 1] → linear light in [0, 1] (IEC 61966-2-1)."""
    image = np.asarray(image, np.float32)
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: NDArray[np.floating]) -> Image:
    """Linear light → sRGB code values, clipped to [0, 1] (IEC 61966-2-1)."""
    image = np.clip(np.asarray(image, np.float32), 0, 1)
    return np.where(image <= 0.0031308, 12.92 * image, 1.055 * image ** (1 / 2.4) - 0.055)


def _fast_length(length: int) -> int:
    """The next length that has only the factors 2, 3 and 5, which FFTs handle quickly."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def convolve(
    image: Image, kernel: NDArray[np.floating], border: Literal["reflect", "valid"] = "reflect"
) -> Image:
    """Convolve an H×W×C image with a k×k kernel (k odd), by FFT.

    border="reflect" mirrors the photo at its edges and keeps its size; border="valid" returns
    only pixels whose whole neighbourhood lies inside, (H−k+1)×(W−k+1).
    """
    rows, columns = kernel.shape
    if border == "reflect":
        reach = ((rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))
        image = np.pad(image, reach, mode="reflect")
    height, width = image.shape[:2]
    if height < rows or width < columns:
        raise ValueError(f"a {height}×{width} image is smaller than the {rows}×{columns} kernel")
    shape = (_fast_length(height), _fast_length(width))
    spectrum = np.fft.rfft2(image, shape, axes=(0, 1))
    spectrum *= np.fft.rfft2(kernel.astype(np.float32), shape)[:, :, None]
    full = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    # The transform's circular part lies in the first rows−1 and columns−1 values.
    return full[rows - 1 : height, columns - 1 : width].astype(np.float32)


def blur_photo(
    photo: Image,
    kernel: NDArray[np.floating],
    border: Literal["reflect", "valid"] = "reflect",
) -> Image:
    """Blur an sRGB photo (H×W×C in [0, 1]) as light does: in linear light, then back to sRGB."""
    return linear_to_srgb(convolve(srgb_to_linear(photo), kernel, border))
