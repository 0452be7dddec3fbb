"""What a camera and its software do to the light that reaches them, besides blurring it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from unblur.blur.arrays import Image, alike, as_numpy, namespace, resize, standard_normal
from unblur.blur.convolution import convolve
from unblur.blur.errors import BlurError
from unblur.blur.kernels import gaussian_kernel
from unblur.blur.parameters import Parameter, draw, draw_count, require
from unblur.blur.steps import Drawn, Step, register


def add_noise(
    image: Image, seed: int | np.random.Generator, read: float, shot: float = 0.0
) -> Image:
    """Signal-independent plus signal-dependent sensor noise, both Gaussian.

    The variance at value v is read² + shot·v: the usual Gaussian approximation of Poisson shot
    noise, `shot` being one electron's share of full scale. Values stay unclipped; image and
    `read` are in units of full scale.
    After A. Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data", IEEE Transactions on Image Processing 17(10), 2008.
    """
    noise = standard_normal(image, seed)
    if shot == 0:
        return image + read * noise
    return image + noise * (read**2 + shot * namespace(image).clip(image, 0, 1)) ** 0.5


def compress(image: Image, kind: str, quality: int) -> Image:
    """Write and read an H×W×3 image in [0, 1] as JPEG or WebP of the given quality (1…100).

    A tensor is compressed on the CPU, by the same codec.
    """
    buffer = io.BytesIO()
    pixels = np.rint(np.clip(as_numpy(image), 0, 1) * 255).astype(np.uint8)
    # WebP's fastest method: its artefacts are alike, and it is several times quicker.
    try:
        PillowImage.fromarray(pixels).save(buffer, kind, quality=quality, method=0)
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise BlurError(f"{width}×{height} pixels are too many for {kind}") from error
    decoded = np.asarray(PillowImage.open(buffer).convert("RGB"), np.float32) / np.float32(255)
    return alike(decoded, image)


@register("saturation")
@dataclass(frozen=True)
class Saturation(Step):
    """What the photo shows as white was brighter still, so that its blur burns out, too.

    Belongs in linear light, before the blur. gain: how much brighter. threshold: from which value
    in [0, 1] on a pixel's brightest channel counts as burnt out, rising smoothly over 0.02.
    After J. Rim et al., "Realistic blur synthesis for learning image deblurring", ECCV 2022.
    """

    gain: Parameter = (0.25, 1.75)
    threshold: float = 0.96

    def __post_init__(self) -> None:
        require(self, "gain", 0, 100)
        require(self, "threshold", 0, 1)

    def draw(self, rng: np.random.Generator) -> Drawn:
        gain, threshold = draw(self.gain, rng), self.threshold

        def apply(image: Image) -> Image:
            xp = namespace(image)
            brightest = image.max(-1) if xp is np else image.amax(-1)
            mask = xp.clip((brightest - threshold) / 0.02, 0, 1)
            return image + gain * mask[:, :, None]

        return Drawn(apply, ({"step": self.name, "gain": gain},))


@register("noise")
@dataclass(frozen=True)
class SensorNoise(Step):
    """Read noise and Poisson shot noise (`add_noise`).

    read: standard deviation in units of full scale. shot: one electron's share of full scale.
    """

    read: Parameter = 0.0
    shot: Parameter = 0.0

    def __post_init__(self) -> None:
        require(self, "read", 0, 1)
        require(self, "shot", 0, 1)

    def draw(self, rng: np.random.Generator) -> Drawn:
        read, shot, seed = draw(self.read, rng), draw(self.shot, rng), int(rng.integers(2**32))

        def apply(image: Image) -> Image:
            return add_noise(image, seed, read, shot)

        return Drawn(apply, ({"step": self.name, "read": read, "shot": shot, "seed": seed},))


@register("resize")
@dataclass(frozen=True)
class Rescale(Step):
    """Made smaller by `scale` in (0, 1] and enlarged again to its size, as shared photos are.

    As in X. Wang et al., "Real-ESRGAN", 2021, but ending at the same size.
    """

    scale: Parameter

    def __post_init__(self) -> None:
        require(self, "scale", 0.05, 1)

    def draw(self, rng: np.random.Generator) -> Drawn:
        scale = draw(self.scale, rng)

        def apply(image: Image) -> Image:
            height, width = int(image.shape[0]), int(image.shape[1])
            small = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
            return resize(small, height, width)

        return Drawn(apply, ({"step": self.name, "scale": scale},), reach=int(np.ceil(4 / scale)))


@register("sharpen")
@dataclass(frozen=True)
class Sharpen(Step):
    """Unsharp masking, as cameras and photo programs do: + amount · (photo − its Gaussian blur).

    A step of K. Zhang et al., "Designing a practical degradation model", ICCV 2021.

    sigma: of that Gaussian, in pixels.
    """

    amount: Parameter
    sigma: Parameter = 1.0

    def __post_init__(self) -> None:
        require(self, "amount", 0, 10)
        require(self, "sigma", 0.1, 20)

    def draw(self, rng: np.random.Generator) -> Drawn:
        amount, sigma = draw(self.amount, rng), draw(self.sigma, rng)
        mask = -amount * gaussian_kernel(sigma)
        centre = mask.shape[0] // 2
        mask[centre, centre] += 1 + amount

        def apply(image: Image) -> Image:
            return namespace(image).clip(convolve(image, mask), 0, 1)

        record = {"step": self.name, "amount": amount, "sigma": sigma}
        return Drawn(apply, (record,), reach=centre)


class Compression(Step):
    """Lossy compression; a subclass names the format (X. Wang et al., "Real-ESRGAN", 2021).

    quality: 1 … 100, as Pillow counts it.
    """

    quality: Parameter
    kind: str

    def __post_init__(self) -> None:
        require(self, "quality", 1, 100)

    def draw(self, rng: np.random.Generator) -> Drawn:
        quality = draw_count(self.quality, rng)

        def apply(image: Image) -> Image:
            if image.shape[-1] != 3:
                raise BlurError(f"{self.name} compresses H×W×3 images, got {image.shape}")
            return compress(image, self.kind, quality)

        # Its blocks are 16 pixels wide.
        return Drawn(apply, ({"step": self.name, "quality": quality},), reach=16)


@register("jpeg")
@dataclass(frozen=True)
class Jpeg(Compression):
    """JPEG compression with chroma subsampling, quality 1 … 100."""

    quality: Parameter
    kind = "JPEG"


@register("webp")
@dataclass(frozen=True)
class WebP(Compression):
    """WebP compression, quality 1 … 100."""

    quality: Parameter
    kind = "WEBP"


def to_float(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit code values → float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_eight_bit(image: Image) -> NDArray[np.uint8]:
    """Floats in [0, 1], clipped → 8-bit code values, rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
