"""Convolution with blur kernels, without wrap-around, and the curves between light and code."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unblur.blur.arrays import Image, alike, is_tensor, namespace, reflect_pad


def srgb_to_linear(image: Image) -> Image:
    """sRGB code values in [0, 1] → linear light in [0, 1] (IEC 61966-2-1)."""
    xp = namespace(image)
    return xp.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: Image) -> Image:
    """Linear light → sRGB code values, clipped to [0, 1] (IEC 61966-2-1)."""
    xp = namespace(image)
    image = xp.clip(image, 0, 1)
    # The power of what is not 0 only: its slope there is infinite, which gradients do not survive.
    curved = 1.055 * xp.clip(image, 0.0031308, 1) ** (1 / 2.4) - 0.055
    return xp.where(image <= 0.0031308, 12.92 * image, curved)


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
    """Convolve an H×W×C array or tensor with a kernel of odd sides, by FFT.

    border="reflect" mirrors the photo at its edges and keeps its size; border="valid" returns
    only pixels whose whole neighbourhood lies inside, (H−k+1)×(W−k+1).
    """
    rows, columns = kernel.shape
    if border == "reflect":
        image = reflect_pad(image, rows // 2, columns // 2)
    height, width = int(image.shape[0]), int(image.shape[1])
    if height < rows or width < columns:
        raise ValueError(f"a {height}×{width} image is smaller than the {rows}×{columns} kernel")
    shape = (_fast_length(height), _fast_length(width))
    fft = namespace(image).fft
    # The transform's circular part lies in the first rows−1 and columns−1 values.
    inside = np.s_[:, rows - 1 : height, columns - 1 : width]
    if is_tensor(image):
        spectrum = fft.rfft2(image.permute(2, 0, 1), shape)
        spectrum = spectrum * fft.rfft2(alike(kernel, image), shape)
        return fft.irfft2(spectrum, shape)[inside].permute(1, 2, 0)
    # In double precision: NumPy's forward transform of float32 is four times slower.
    spectrum = fft.rfft2(np.moveaxis(image, 2, 0).astype(np.float64), shape)
    spectrum *= fft.rfft2(kernel.astype(np.float64), shape)
    planes = fft.irfft2(spectrum, shape)[inside].astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2))


def blur_photo(
    photo: Image,
    kernel: NDArray[np.floating],
    border: Literal["reflect", "valid"] = "reflect",
) -> Image:
    """Blur an sRGB photo (H×W×C in [0, 1]) as light does: in linear light, then back to sRGB."""
    return linear_to_srgb(convolve(srgb_to_linear(photo), kernel, border))
