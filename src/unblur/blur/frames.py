"""Blur as high-frame-rate cameras make it: the mean of consecutive sharp frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unblur.blur.camera import to_eight_bit, to_float
from unblur.blur.errors import BlurError
from unblur.blur.parameters import Choice, Parameter, bounds, require


def average_frames(
    frames: Sequence[NDArray[np.uint8]], gamma: float | None = None
) -> NDArray[np.uint8]:
    """The mean of H×W×C uint8 frames.

    gamma: the camera's curve that is undone before and applied again after, 2.2 for GoPro's
        `blur_gamma`; None averages the code values, as its `blur` does.
    After S. Nah et al., "Deep multi-scale convolutional neural network for dynamic scene
    deblurring", CVPR 2017. Raises BlurError when the frames are not all of one size.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        raise BlurError(f"frames of one size can be averaged, got {sorted(shapes)}")
    exponent = gamma or 1.0
    # Each code value's light, so that a frame is one look-up and one addition.
    light = (to_float(np.arange(256, dtype=np.uint8)) ** exponent).astype(np.float32)
    total = np.zeros(frames[0].shape, np.float32)
    for frame in frames:
        total += light[frame]
    return to_eight_bit((total / len(frames)) ** (1 / exponent))


@dataclass(frozen=True)
class FrameAverage:
    """How frames of a sequence are averaged to blurred ones; the middle frame is the sharp one.

    window: how many frames, odd.
    gamma: as `average_frames` has it.
    stride: from one middle frame to the next; a window's width when None, so that none overlap.
    """

    window: Parameter
    gamma: float | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        require(self, "window", 3, 999, odd=True)
        if self.gamma is not None:
            require(self, "gamma", 1, 4)
        if self.stride is not None:
            require(self, "stride", 1, 10**6)

    def draw_window(self, rng: np.random.Generator, most: int) -> int | None:
        """An odd number of frames, all possible ones up to `most` being equally likely."""
        if isinstance(self.window, Choice):
            widths = [int(value) for value in self.window.values]
        else:
            low, high = bounds(self.window)
            widths = list(range(int(low), int(high) + 1, 2))
        widths = [width for width in widths if width <= most]
        return widths[int(rng.integers(len(widths)))] if widths else None
