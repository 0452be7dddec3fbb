"""Blurs that differ from place to place: mixtures of kernels, and objects that move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unblur.blur.arrays import Image, alike, namespace
from unblur.blur.arrays import resize as resized
from unblur.blur.convolution import convolve
from unblur.blur.errors import BlurError
from unblur.blur.kernel_blurs import KernelBlur
from unblur.blur.parameters import Parameter, draw, draw_count, require
from unblur.blur.steps import Drawn, Record, Step, register, unchanged


def _masks(coarse: NDArray[np.float32], image: Image) -> Image:
    """Smooth weights H×W×N that sum to one everywhere, from a coarse grid of scores."""
    scores = resized(alike(coarse, image), int(image.shape[0]), int(image.shape[1]))
    weights = namespace(image).exp(3 * (scores - scores.max()))
    return weights / weights.sum(-1)[:, :, None]


@register("varying")
@dataclass(frozen=True)
class VaryingBlur(Step):
    """Several kernels, blended into each other by smooth random masks.

    After J. G. Nagy and D. P. O'Leary, "Restoring images degraded by spatially variant blur", SIAM
    Journal on Scientific Computing 19(4), 1998. The masks span whatever is blurred: a crop as well
    as a photo.

    blur: draws each of the kernels; a kernel blur or a choice among such.
    count: how many kernels.
    grid: the masks vary over about so many regions along each side.
    """

    blur: Step
    count: Parameter = (2, 4)
    grid: int = 3

    def __post_init__(self) -> None:
        require(self, "count", 2, 16)
        require(self, "grid", 2, 64)
        for step in self.blur.alternatives():
            if isinstance(step, KernelBlur):
                continue
            part = step.draw(np.random.default_rng(0))
            if len(part.kernels) > 1:
                raise BlurError("varying blends single kernels, not steps of several")
            if part.sharp is not unchanged:
                raise BlurError("varying blends what blurs: put keep before or after it")

    def draw(self, rng: np.random.Generator) -> Drawn:
        parts = [self.blur.draw(rng) for _ in range(draw_count(self.count, rng))]
        seed = int(rng.integers(2**32))
        shape = (self.grid, self.grid, len(parts))
        coarse = np.random.default_rng(seed).standard_normal(shape, np.float32)

        def apply(image: Image) -> Image:
            masks = _masks(coarse, image)
            total = parts[0](image) * masks[:, :, 0:1]
            for index, part in enumerate(parts[1:], 1):
                total = total + part(image) * masks[:, :, index : index + 1]
            return total

        record = {
            "step": self.name,
            "seed": seed,
            "blurs": [record for part in parts for record in part.records],
        }
        kernels = tuple(kernel for part in parts for kernel in part.kernels)
        return Drawn(apply, (record,), kernels, max(part.reach for part in parts), uniform=False)


@register("object_motion")
@dataclass(frozen=True)
class ObjectMotion(Step):
    """A region that moves over a background that stands still.

    The region is cut out with a soft edge, moved along the kernel's path and laid over the photo,
    which shows where it was not all the time: k∗(m·x) + (1 − k∗m)·x.
    After J. Jia, "Single image motion deblurring using transparency", CVPR 2007.

    blur: draws the way that the region moves; a kernel blur.
    size: of the region, as a share of the photo's shorter side.
    """

    blur: KernelBlur
    size: Parameter = (0.2, 0.6)

    def __post_init__(self) -> None:
        require(self, "size", 0.01, 2)

    def draw(self, rng: np.random.Generator) -> Drawn:
        kernel, parameters = self.blur.draw_kernel(rng)
        record = {
            "step": self.name,
            "blur": {"step": self.blur.name, **parameters},
            "size": draw(self.size, rng),
            "centre": [float(value) for value in rng.uniform(0.2, 0.8, 2)],
            "ratio": float(rng.uniform(0.4, 1)),
            "angle": float(rng.uniform(0, 180)),
        }

        def apply(image: Image) -> Image:
            mask = alike(_ellipse((int(image.shape[0]), int(image.shape[1])), record), image)
            moved = convolve(image * mask, kernel)
            return moved + (1 - convolve(mask, kernel)) * image

        return Drawn(apply, (record,), (kernel,), max(kernel.shape) // 2, uniform=False)


def _ellipse(shape: tuple[int, int], record: Record) -> NDArray[np.float32]:
    """H×W×1: 1 inside an ellipse, 0 outside, with an edge of two pixels."""
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    down = y - record["centre"][0] * height
    right = x - record["centre"][1] * width
    turn = np.radians(record["angle"])
    along = right * np.cos(turn) - down * np.sin(turn)
    aside = (right * np.sin(turn) + down * np.cos(turn)) / record["ratio"]
    radius = record["size"] * min(height, width) / 2
    inside = radius - np.hypot(along, aside)
    return np.clip(inside / 2 + 0.5, 0, 1)[:, :, None].astype(np.float32)
