"""How blur is made: kernels, convolution in linear light, and the camera that records it."""

from unblur.blur.camera import add_noise, compress_jpeg
from unblur.blur.convolution import blur_photo, convolve, linear_to_srgb, srgb_to_linear
from unblur.blur.kernels import defocus_kernel, gaussian_kernel, shake_kernel

__all__ = [
    "add_noise",
    "blur_photo",
    "compress_jpeg",
    "convolve",
    "defocus_kernel",
    "gaussian_kernel",
    "linear_to_srgb",
    "shake_kernel",
    "srgb_to_linear",
]
