"""Blurs that are one kernel for the whole photo: Gaussian, shake, motion, defocus, measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from unblur.blur.arrays import Image
from unblur.blur.convolution import convolve
from unblur.blur.errors import BlurError
from unblur.blur.kernels import (
    Centre,
    Kernel,
    aperture_kernel,
    defocus_kernel,
    gaussian_kernel,
    motion_kernel,
    pillow_gaussian_kernel,
    read_kernel,
    require_centre,
    shake_kernel,
    sway_kernel,
)
from unblur.blur.parameters import Parameter, draw, draw_count, require
from unblur.blur.steps import Drawn, Record, Step, register


class KernelBlur(Step):
    """A convolution with one kernel."""

    @abstractmethod
    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        """A kernel and the parameters it was made with."""

    def draw(self, rng: np.random.Generator) -> Drawn:
        kernel, parameters = self.draw_kernel(rng)

        def apply(image: Image) -> Image:
            return convolve(image, kernel)

        record = {"step": self.name, **parameters, "kernel_size": list(kernel.shape)}
        return Drawn(apply, (record,), (kernel,), max(kernel.shape) // 2)


@register("gaussian")
@dataclass(frozen=True)
class GaussianBlur(KernelBlur):
    """Gaussian, round or elongated; the elongated one as in X. Wang et al., "Real-ESRGAN", 2021.

    sigma: standard deviation in pixels, along the longer axis.
    size: side of the kernel in pixels, odd; three sigma to each side when None.
    ratio: shorter axis over longer one, in (0, 1]; 1 is round.
    angle: direction of the longer axis in degrees, counter-clockwise from the horizontal.
    """

    sigma: Parameter
    size: int | None = None
    ratio: Parameter = 1.0
    angle: Parameter = (0.0, 180.0)

    def __post_init__(self) -> None:
        require(self, "sigma", 0, 100)
        require(self, "ratio", 0.01, 1)
        require(self, "angle")
        if self.size is not None:
            require(self, "size", 1, 999, odd=True)

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        sigma, ratio = draw(self.sigma, rng), draw(self.ratio, rng)
        if ratio == 1:
            return gaussian_kernel(sigma, self.size), {"sigma": sigma}
        angle = draw(self.angle, rng)
        kernel = gaussian_kernel(sigma, self.size, ratio, angle)
        return kernel, {"sigma": sigma, "ratio": ratio, "angle": angle}


@register("pillow_gaussian")
@dataclass(frozen=True)
class PillowGaussianBlur(KernelBlur):
    """What Pillow's `ImageFilter.GaussianBlur(radius)` computes: three box blurs."""

    radius: Parameter

    def __post_init__(self) -> None:
        require(self, "radius", 0, 100)

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        radius = draw(self.radius, rng)
        return pillow_gaussian_kernel(radius), {"radius": radius}


@dataclass(frozen=True)
class PathBlur(KernelBlur):
    """Blur along a random path of the camera.

    extent: the larger side of the path's bounding box, in pixels.
    frames: when the exposure is the mean of so many video frames; None for one without gaps.
    softness: sigma in pixels of the Gaussian by which lens and sensor soften the path.
    centre: the point of the path that the sharp photo shows: `centroid` of its light, middle of
        the `box` around it (nearly as published kernels have it), or its `middle` in time (as data
        sets of averaged frames have it).
    """

    make: ClassVar[Callable[..., Kernel]]
    of_the_path: ClassVar[tuple[str, ...]]  # parameters that are its own

    extent: Parameter
    frames: Parameter | None = None
    softness: Parameter = 0.0
    centre: Centre = "centroid"

    def __post_init__(self) -> None:
        require(self, "extent", 0, 500)
        require(self, "softness", 0, 10)
        if self.frames is not None:
            require(self, "frames", 2, 1000)
        require_centre(self.centre)

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        names = ("extent", *self.of_the_path, "softness")
        values: Record = {name: draw(getattr(self, name), rng) for name in names}
        if self.frames is not None:
            values["frames"] = draw_count(self.frames, rng)
        if self.centre != "centroid":
            values["centre"] = self.centre
        seed = int(rng.integers(2**32))
        return self.make(np.random.default_rng(seed), **values), values | {"seed": seed}


@register("shake")
@dataclass(frozen=True)
class ShakeBlur(PathBlur):
    """A hand-held camera's shake during the exposure (`kernels.shake_kernel`).

    exposure: the share of the path that is recorded, in (0, 1].
    shakiness: 0, a smooth sweep, to 1, nervous.
    """

    make = staticmethod(shake_kernel)
    of_the_path = ("exposure", "shakiness")

    exposure: Parameter = 1.0
    shakiness: Parameter = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "exposure", 1e-3, 1)
        require(self, "shakiness", 0, 1)


@register("sway")
@dataclass(frozen=True)
class SwayBlur(PathBlur):
    """A camera that sways, slow where it turns, like published ones (`kernels.sway_kernel`).

    smoothness: the time over which the motion is alike, as a share of the exposure.
    """

    make = staticmethod(sway_kernel)
    of_the_path = ("smoothness",)

    smoothness: Parameter = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "smoothness", 0.05, 10)


@register("motion")
@dataclass(frozen=True)
class LinearMotionBlur(KernelBlur):
    """Straight, even motion: the classical model of A. A. Sawchuk, "Space-variant image motion
    degradation and restoration", Proceedings of the IEEE 60(7), 1972, for a constant direction.

    length: of the way in pixels.
    angle: in degrees, counter-clockwise from the horizontal.
    """

    length: Parameter
    angle: Parameter = (0.0, 180.0)

    def __post_init__(self) -> None:
        require(self, "length", 0, 500)
        require(self, "angle")

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        length, angle = draw(self.length, rng), draw(self.angle, rng)
        return motion_kernel(length, angle), {"length": length, "angle": angle}


@register("defocus")
@dataclass(frozen=True)
class DefocusBlur(KernelBlur):
    """Out of focus: the image of the aperture, a disc or, with blades, a polygon.

    Geometrical optics, without diffraction: H. H. Hopkins, "The frequency response of a defocused
    optical system", Proceedings of the Royal Society A 231, 1955.

    radius: of the circle around it, in pixels.
    blades: of the diaphragm, at least 3; a disc when None.
    angle: by which the polygon is turned, in degrees.
    """

    radius: Parameter
    blades: Parameter | None = None
    angle: Parameter = (0.0, 180.0)

    def __post_init__(self) -> None:
        require(self, "radius", 0, 200)
        require(self, "angle")
        if self.blades is not None:
            require(self, "blades", 3, 50)

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        radius = draw(self.radius, rng)
        if self.blades is None:
            return defocus_kernel(radius), {"radius": radius}
        blades, angle = draw_count(self.blades, rng), draw(self.angle, rng)
        kernel = aperture_kernel(radius, blades, angle)
        return kernel, {"radius": radius, "blades": blades, "angle": angle}


@cache
def _kernel_files(path: Path) -> tuple[tuple[str, Kernel], ...]:
    if not path.exists():
        raise BlurError(f"{path}: no such kernel file or folder")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".npy", ".png"))
        if not files:
            raise BlurError(f"{path}: holds no kernels (.npy or .png)")
    return tuple((file.name, read_kernel(file)) for file in files)


@register("kernels")
@dataclass(frozen=True)
class MeasuredBlur(KernelBlur):
    """Kernels from files, one drawn at a time, such as those that A. Levin et al. measured
    ("Understanding and evaluating blind deconvolution algorithms", CVPR 2009).

    path: a .npy or .png file, or a folder of them.
    flip: whether they are also mirrored and turned by quarters at random.
    """

    path: Path
    flip: bool = False

    def __post_init__(self) -> None:
        _kernel_files(self.path)  # so that what is wrong is said before any work

    def draw_kernel(self, rng: np.random.Generator) -> tuple[Kernel, Record]:
        files = _kernel_files(self.path)
        name, kernel = files[int(rng.integers(len(files)))]
        record: Record = {"file": name}
        if self.flip:
            record["turns"], record["mirrored"] = int(rng.integers(4)), bool(rng.random() < 0.5)
            turned = np.rot90(kernel, record["turns"])
            kernel = np.ascontiguousarray(turned[:, ::-1] if record["mirrored"] else turned)
        return kernel, record

    def alternatives(self) -> list[Step]:
        if not self.path.is_dir():
            return [self]
        return [replace(self, path=self.path / name) for name, _ in _kernel_files(self.path)]
