"""What differs between NumPy arrays and torch tensors, so that every blur is written once.

Images here are H×W×C in [0, 1]; a tensor stays on its device. torch is never imported: whoever
holds a tensor has done so.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from unblur.padding import reflected_indices

# NDArray[np.float32] or torch.Tensor; functions return what they were given.
Image: TypeAlias = Any


def is_tensor(image: Image) -> bool:
    """Whether an image is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def namespace(image: Image) -> Any:
    """The module whose functions work on an image: numpy or torch."""
    return sys.modules["torch"] if is_tensor(image) else np


def alike(values: NDArray[Any], image: Image) -> Image:
    """An array as float32 of the kind that `image` is, on its device."""
    if is_tensor(image):
        return namespace(image).as_tensor(values.astype(np.float32), device=image.device)
    return values.astype(np.float32)


def as_numpy(image: Image) -> NDArray[np.float32]:
    """The image as a NumPy array, copied from its device if need be."""
    return image.detach().cpu().numpy() if is_tensor(image) else image


def standard_normal(image: Image, seed: int | np.random.Generator) -> Image:
    """Gaussian noise of the image's shape; the same for a seed on one kind of device.

    A generator goes with arrays only.
    """
    if is_tensor(image):
        torch = namespace(image)
        generator = torch.Generator(image.device).manual_seed(seed)
        return torch.randn(image.shape, generator=generator, device=image.device)
    return np.random.default_rng(seed).standard_normal(image.shape, np.float32)


def reflect_pad(image: Image, rows: int, columns: int) -> Image:
    """Mirror an image at its edges, without repeating them, by so many pixels on each side."""
    for axis, reach in enumerate((rows, columns)):
        length = int(image.shape[axis])
        places = reflected_indices(-reach, length + reach, length)
        if is_tensor(image):
            places = namespace(image).as_tensor(places, device=image.device)
            image = image.index_select(axis, places)
        else:
            image = image.take(places, axis)
    return image


def resize(image: Image, height: int, width: int) -> Image:
    """Bicubic with antialiasing, in floats: Pillow's, or torch's, which agrees with it."""
    if is_tensor(image):
        planes = namespace(image).nn.functional.interpolate(
            image.permute(2, 0, 1)[None], (height, width), mode="bicubic", antialias=True
        )
        return planes[0].permute(1, 2, 0)
    channels = (np.ascontiguousarray(image[:, :, index]) for index in range(image.shape[2]))
    bicubic = PillowImage.Resampling.BICUBIC
    return np.stack(
        [np.asarray(PillowImage.fromarray(c).resize((width, height), bicubic)) for c in channels],
        axis=2,
    )
