"""How blur is made: kernels, convolution, cameras, and how they are put together.

`parse_degradation("photo")` or `GaussianBlur(sigma=(0, 3))` describe; `draw` makes the random
choices; the result spoils arrays and torch tensors alike.
"""

from unblur.blur.camera import (
    Jpeg,
    Rescale,
    Saturation,
    SensorNoise,
    Sharpen,
    WebP,
    add_noise,
    compress,
)
from unblur.blur.convolution import blur_photo, convolve, linear_to_srgb, srgb_to_linear
from unblur.blur.degradation import (
    Degradation,
    build_degradation,
    list_presets,
    parse_degradation,
    spoil,
)
from unblur.blur.errors import BlurError
from unblur.blur.frames import FrameAverage, average_frames
from unblur.blur.kernel_blurs import (
    DefocusBlur,
    GaussianBlur,
    KernelBlur,
    LinearMotionBlur,
    MeasuredBlur,
    PathBlur,
    PillowGaussianBlur,
    ShakeBlur,
    SwayBlur,
)
from unblur.blur.kernels import (
    Kernel,
    aperture_kernel,
    convolve_kernels,
    defocus_kernel,
    gaussian_kernel,
    motion_kernel,
    pillow_gaussian_kernel,
    read_kernel,
    shake_kernel,
    sway_kernel,
)
from unblur.blur.local_blurs import ObjectMotion, VaryingBlur
from unblur.blur.parameters import Choice, LogUniform, Parameter
from unblur.blur.steps import (
    STEPS,
    Drawn,
    Keep,
    LinearLight,
    OneOf,
    Sequential,
    Shuffled,
    Sometimes,
    Step,
    Unchanged,
)

__all__ = [
    "STEPS",
    "BlurError",
    "Choice",
    "DefocusBlur",
    "Degradation",
    "Drawn",
    "FrameAverage",
    "GaussianBlur",
    "Jpeg",
    "Keep",
    "Kernel",
    "KernelBlur",
    "LinearLight",
    "LinearMotionBlur",
    "LogUniform",
    "MeasuredBlur",
    "ObjectMotion",
    "OneOf",
    "Parameter",
    "PathBlur",
    "PillowGaussianBlur",
    "Rescale",
    "Saturation",
    "SensorNoise",
    "Sequential",
    "ShakeBlur",
    "Sharpen",
    "Shuffled",
    "Sometimes",
    "Step",
    "SwayBlur",
    "Unchanged",
    "VaryingBlur",
    "WebP",
    "add_noise",
    "aperture_kernel",
    "average_frames",
    "blur_photo",
    "build_degradation",
    "compress",
    "convolve",
    "convolve_kernels",
    "defocus_kernel",
    "gaussian_kernel",
    "linear_to_srgb",
    "list_presets",
    "motion_kernel",
    "parse_degradation",
    "pillow_gaussian_kernel",
    "read_kernel",
    "shake_kernel",
    "spoil",
    "srgb_to_linear",
    "sway_kernel",
]
