"""The Python API: the same kind comes back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import unblur
from unblur.imaging import ImageError


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.dtype(">u2"), np.float32])
def test_arrays(scene: np.ndarray, channels: int, dtype: type) -> None:
    image = np.asarray(Image.fromarray(scene[:48, :64]).filter(ImageFilter.GaussianBlur(1.5)))
    if np.dtype(dtype).itemsize == 2:
        image = (image.astype(np.uint16) * 257).astype(dtype)
    elif dtype == np.float32:
        image = (image / 255).astype(np.float32)
    if channels < 3:
        image = image[:, :, 0] if channels == 0 else image[:, :, :1]
    if channels == 4:
        image = np.dstack([image, image[:, :, 1]])
    restored = unblur.deblur(image)
    assert (restored.shape, restored.dtype) == (image.shape, image.dtype)
    assert not np.array_equal(restored, image)
    if channels == 4:
        assert np.array_equal(restored[:, :, 3], image[:, :, 3])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pil_images(scene: np.ndarray, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(scene[:48, :64, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(scene[:48, :64]).convert(mode)
    image.info["dpi"] = (72, 72)
    restored = unblur.deblur(image)
    assert restored.size == image.size
    assert restored.mode == ("RGB" if mode == "P" else mode)
    assert restored.info["dpi"] == (72, 72)
    if mode == "I;16":  # a transparent colour does not make it white
        image.info["transparency"] = 0
        assert np.array_equal(np.asarray(unblur.deblur(image)), np.asarray(restored))


def test_bytes(scene: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene[:48, :64]).save(buffer, "WEBP")
    restored = unblur.deblur(buffer.getvalue())
    assert isinstance(restored, bytes)
    image = Image.open(io.BytesIO(restored))
    assert (image.format, image.size) == ("WEBP", (64, 48))


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(tmp_path: Path, scene: np.ndarray, kind: type) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(scene[:48, :64]).save(path)
    result = unblur.deblur(kind(path))
    assert isinstance(result, kind)
    assert Path(result).name == "a_sharp.png"
    assert Image.open(result).size == (64, 48)
    with pytest.raises(ImageError, match="exists already"):
        unblur.deblur(kind(path))


def test_a_deblurrer_and_strength(scene: np.ndarray) -> None:
    deblurrer = unblur.Deblurrer("small")
    part = scene[:48, :64]
    assert np.array_equal(unblur.deblur(part, deblurrer), deblurrer.restore_pixels(part))
    assert np.array_equal(unblur.deblur(part, deblurrer, strength=0), part)


def test_list_models() -> None:
    assert [card.name for card in unblur.list_models()] == ["small", "base"]


def test_what_is_no_image() -> None:
    with pytest.raises(TypeError, match="int"):
        unblur.deblur(7)
    with pytest.raises(ImageError):
        unblur.deblur(b"not an image")
    with pytest.raises(ValueError, match="shape"):
        unblur.deblur(np.zeros((3, 4, 7), np.uint8))
    with pytest.raises(AttributeError):
        _ = unblur.nothing


def test_transparent_colours_stay_transparent(scene: np.ndarray) -> None:
    image = Image.fromarray(scene[:48, :64]).quantize(16)
    image.info["transparency"] = 3
    restored = unblur.deblur(image)
    assert restored.mode == "RGBA"
    assert np.array_equal(np.asarray(restored)[:, :, 3], np.asarray(image.convert("RGBA"))[:, :, 3])


def test_a_bytearray_comes_back(scene: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene[:48, :64]).save(buffer, "PNG")
    assert isinstance(unblur.deblur(bytearray(buffer.getvalue())), bytearray)
