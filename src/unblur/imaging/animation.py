"""Animated GIF and WebP ⇄ frames."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from unblur.imaging.errors import ImageError

_FORMATS = {".gif": "GIF", ".webp": "WEBP"}
_DEFAULT_QUALITY = 95  # of WebP
_DEFAULT_DURATION = 100  # milliseconds, what browsers take for none


@dataclass(frozen=True)
class Animation:
    """Frames, H×W×4 uint8 with alpha, each shown for some milliseconds, all `loop` times (0: for
    ever; None: a GIF that does not say, which is shown once)."""

    format: str
    frames: list[NDArray[np.uint8]]
    durations: list[int]
    loop: int | None
    info: dict[str, Any]


def is_animation(path: Path) -> bool:
    """Whether a file is an animated GIF or WebP, by its name and content."""
    if path.suffix.lower() not in _FORMATS or not path.is_file():
        return False
    with contextlib.suppress(Exception), Image.open(path) as image:
        return bool(getattr(image, "is_animated", False))
    return False


def read_animation(path: Path, max_pixels: int) -> Animation:
    """Read an animation of at most `max_pixels` in all frames together. Raises ImageError."""
    try:
        with Image.open(path) as image:
            frames, durations, pixels = [], [], 0
            for frame in ImageSequence.Iterator(image):
                pixels += frame.width * frame.height
                if pixels > max_pixels:
                    raise ImageError(
                        f"{path}: its frames have more than the limit of {max_pixels / 1e6:g} MP "
                        "together; raise --max-pixels if this is meant"
                    )
                frames.append(np.asarray(frame.convert("RGBA")))
                durations.append(int(frame.info.get("duration") or _DEFAULT_DURATION))
            kept = {k: v for k, v in image.info.items() if k in ("icc_profile", "exif", "xmp")}
            loop = image.info.get("loop", None if image.format == "GIF" else 0)
            return Animation(str(image.format), frames, durations, loop, kept)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file drives them to
        raise ImageError(f"{path}: damaged or incomplete animation ({error})") from error


def encode_animation(
    animation: Animation, frames: Iterator[NDArray[np.uint8]], quality: int | None = None
) -> bytes:
    """The bytes of an animation like another one, with other frames. quality: of WebP."""
    options: dict[str, Any] = dict(animation.info)
    if animation.format == "GIF":
        pictures = (_in_few_colours(frame) for frame in frames)
        options |= {"disposal": 2, "optimize": False}
        if animation.loop is not None:
            options["loop"] = animation.loop
    else:
        pictures = (Image.fromarray(frame) for frame in frames)
        options |= {"loop": animation.loop, "lossless": quality == 100}
        options["quality"] = quality or _DEFAULT_QUALITY
    first = next(pictures)
    buffer = io.BytesIO()
    first.save(
        buffer,
        animation.format,
        save_all=True,
        append_images=pictures,
        duration=animation.durations,
        **options,
    )
    return buffer.getvalue()


def _in_few_colours(frame: NDArray[np.uint8]) -> Image.Image:
    """A frame as GIFs have it: 256 colours, of which one is transparent where it is needed.

    Pillow would look for the colours of one with alpha in a hurry, at a cost of 7 dB.
    """
    opaque, colours = frame[:, :, 3] >= 128, frame[:, :, :3].copy()
    if opaque.all():
        return Image.fromarray(colours).quantize(256)
    colours[~opaque] = colours[opaque][0] if opaque.any() else 0  # nobody sees them
    few = Image.fromarray(colours).quantize(255)
    picture = Image.fromarray(np.where(opaque, np.asarray(few), 255).astype(np.uint8), "P")
    picture.putpalette(few.getpalette() or [])
    picture.info["transparency"] = 255
    return picture
