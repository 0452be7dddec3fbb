"""The Python API: an image in, the same kind of image out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.imaging import ImageError, encode_photo, read_photo, write_photo
from unblur.inference.batch import sharp_name
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.models import DEFAULT_MODEL, find_model, list_models

__all__ = ["Deblurrer", "deblur", "list_models"]

AnyImage = TypeVar("AnyImage", str, Path, bytes, bytearray, Image.Image, NDArray[Any])


@functools.lru_cache(maxsize=2)
def _load(path: Path, changed: int) -> Deblurrer:
    return Deblurrer(path)


def _deblurrer(model: str | Path) -> Deblurrer:
    """The model, kept for the next call; loaded anew when its file has changed."""
    path = find_model(model)
    return _load(path, path.stat().st_mtime_ns)


def deblur(
    image: AnyImage,
    model: str | Path | Deblurrer = DEFAULT_MODEL,
    strength: float = 1.0,
) -> AnyImage:
    """Sharpen a blurred image.

    image: one of
      - a path (str or Path): a restored copy `<stem>_sharp.<ext>` is written beside it, and its
        path returned; an existing file is never overwritten;
      - bytes of an image file: the bytes of a restored file of the same format are returned;
      - a PIL image: returned with the same mode, size and info (palette images as RGB; those with
        a transparent colour as RGBA or LA; all 16-bit modes as I;16);
      - an array H×W, H×W×1, H×W×3 or H×W×4 (last channel alpha) of uint8, uint16 or float in
        [0, 1]: returned with the same shape and dtype.
    model: a shipped model's name, the path of a model file, or a Deblurrer (quickest for many).
    strength: 0 (the input) … 1 (fully restored).

    Raises ImageError for files that cannot be read, ModelError for unknown models, ValueError for
    arrays that are no images.

    >>> import numpy as np, unblur
    >>> unblur.deblur(np.zeros((48, 64, 3), np.uint8)).shape
    (48, 64, 3)
    """
    engine = model if isinstance(model, Deblurrer) else _deblurrer(model)
    if isinstance(image, np.ndarray):
        return _deblur_array(image, engine, strength)
    if isinstance(image, Image.Image):
        return _deblur_pillow(image, engine, strength)  # type: ignore[return-value]
    if isinstance(image, bytes | bytearray):
        photo = read_photo(bytes(image))
        return type(image)(encode_photo(engine.restore_photo(photo, strength)))
    if isinstance(image, str | Path):
        source = Path(image)
        photo = read_photo(source)
        target = source.with_name(sharp_name(source, photo.format))
        if target.exists():
            raise ImageError(f"{target}: exists already; move it away or delete it")
        write_photo(engine.restore_photo(photo, strength), target)
        return type(image)(target)
    raise TypeError(
        f"deblur takes a path, bytes, a PIL image or an array, not {type(image).__name__}"
    )


def _deblur_array(image: NDArray[Any], engine: Deblurrer, strength: float) -> NDArray[Any]:
    channels = image.shape[2] if image.ndim == 3 else 0
    if channels == 4:
        colours = engine.restore_pixels(image[:, :, :3], strength)
        return np.concatenate([colours, image[:, :, 3:]], axis=2).astype(image.dtype, copy=False)
    if channels == 1:
        return engine.restore_pixels(image[:, :, 0], strength)[:, :, None]
    return engine.restore_pixels(image, strength)


_BY_CONVERSION = ("1", "CMYK", "YCbCr", "HSV", "La", "RGBa", "RGBX")  # modes, and back again


def _deblur_pillow(image: Image.Image, engine: Deblurrer, strength: float) -> Image.Image:
    mode = image.mode
    deep = mode.startswith("I;16")  # which converts to nothing without loss
    if mode in ("P", "PA") or ("transparency" in image.info and not deep):
        colours = "L" if mode in ("1", "L") else "RGB"
        working = image.convert(f"{colours}A" if image.has_transparency_data else colours)
    elif mode in ("L", "LA", "RGB", "RGBA") or deep:
        working = image
    elif mode in _BY_CONVERSION:
        working = image.convert({"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
    else:
        raise ValueError(f"PIL images of mode {mode} are not supported; convert it to RGB first")
    pixels = np.asarray(working)
    if working.mode == "LA":
        grey = engine.restore_pixels(pixels[:, :, 0], strength)
        restored = Image.fromarray(np.dstack([grey, pixels[:, :, 1]]))
    else:
        if pixels.dtype.itemsize == 2:
            pixels = pixels.astype(np.uint16)  # native byte order, as Pillow's I;16 is
        restored = Image.fromarray(_deblur_array(pixels, engine, strength))
    if mode in _BY_CONVERSION and "transparency" not in image.info:
        restored = restored.convert(mode)
    restored.info = dict(image.info)
    if restored.mode.endswith("A"):
        restored.info.pop("transparency", None)
    return restored
