"""A contact sheet: what a data set, or a blur, looks like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unblur.blur import Degradation, Kernel, spoil
from unblur.blur.steps import Record
from unblur.data.cache import ImageCache
from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.randomness import generator
from unblur.data.sources import Pixels
from unblur.data.transforms import averaged

_GAP, _LINE = 8, 16
_AMPLIFIED = 4  # times that differences are shown


def contact_sheet(
    dataset: Dataset,
    degradation: Degradation | None = None,
    count: int = 8,
    seed: int = 42,
    crop: int = 256,
) -> Pixels:
    """Rows of sharp crop, blurred crop and kernel (or their difference), two pairs to a row.

    Images are drawn by `seed`. Smaller ones than `crop` are shown whole. Raises DataError for a
    data set without blurred images when there is no degradation.
    """
    if degradation is not None and degradation.frames is not None:
        dataset = averaged(dataset, degradation.frames, seed)
    rng = generator(seed, "preview")
    chosen = rng.permutation(len(dataset.pairs))[:count]
    cells = [_cell(dataset.pairs[index], degradation, seed, crop) for index in chosen]
    columns = min(2, len(cells))
    rows = math.ceil(len(cells) / columns)
    width = columns * (cells[0].width + 2 * _GAP)
    sheet = Image.new("RGB", (width, rows * (cells[0].height + _GAP)), (24, 24, 26))
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        place = (column * (cell.width + 2 * _GAP) + _GAP, row * (cell.height + _GAP) + _GAP // 2)
        sheet.paste(cell, place)
    return np.asarray(sheet)


def _cell(pair: Pair, degradation: Degradation | None, seed: int, crop: int) -> Image.Image:
    cache = ImageCache()
    rng = generator(seed, pair.name, 0)  # as `synthesize` draws
    sharp = cache.load(pair.sharp)
    averages = degradation is not None and degradation.frames is not None
    if degradation is None or averages:
        if pair.blurred is None:
            raise DataError(f"{pair.sharp.label}: has no blurred partner; choose one with --blur")
        blurred = cache.load(pair.blurred)
        words = (
            pair.blurred.label if averages else f"a pair of the data set; difference × {_AMPLIFIED}"
        )
    else:
        blurred, words = sharp, ""
    kernels: tuple[Kernel, ...] = ()
    if degradation is not None:
        drawn = degradation.draw(rng)
        blurred, kernels = spoil(drawn, blurred), drawn.kernels
        sharp = spoil(drawn.target, sharp)
        words = words or describe(drawn.records)
    if blurred.shape != sharp.shape:
        raise DataError(f"{pair.sharp.label}: its blurred partner has another size")
    height, width = min(crop, sharp.shape[0]), min(crop, sharp.shape[1])
    top, left = _busiest(sharp, height, width, rng)
    window = np.s_[top : top + height, left : left + width]
    third = _kernel_panel(kernels, crop) if kernels else _difference(sharp[window], blurred[window])
    cell = Image.new("RGB", (3 * crop + 2 * _GAP, crop + 2 * _LINE), (24, 24, 26))
    for index, panel in enumerate((sharp[window], blurred[window], third)):
        cell.paste(Image.fromarray(np.ascontiguousarray(panel)), (index * (crop + _GAP), 0))
    draw = ImageDraw.Draw(cell)
    font = ImageFont.load_default(11)
    lines = [pair.name, words]
    for number, line in enumerate(lines):
        draw.text((2, crop + number * _LINE), _shortened(line, cell.width, font), font=font)
    return cell


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + " …") > width:
        text = text[:-1]
    return text + " …"


def _busiest(sharp: Pixels, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Of a few random places the one with most contrast: sky shows nothing of a blur."""
    best, most = (0, 0), -1.0
    for _ in range(6):
        top = int(rng.integers(sharp.shape[0] - height + 1))
        left = int(rng.integers(sharp.shape[1] - width + 1))
        contrast = float(sharp[top : top + height, left : left + width].std())
        if contrast > most:
            best, most = (top, left), contrast
    return best


def _difference(sharp: Pixels, blurred: Pixels) -> Pixels:
    """What blurred lacks of sharp, amplified around grey."""
    signed = sharp.astype(np.int16) - blurred
    return np.clip(128 + _AMPLIFIED * signed, 0, 255).astype(np.uint8)


def _kernel_panel(kernels: Sequence[Kernel], side: int) -> Pixels:
    """The kernels, each as large as fits, in equal scale, with a square root for faint parts."""
    per_row = math.ceil(math.sqrt(len(kernels)))
    room = side // per_row
    largest = max(max(kernel.shape) for kernel in kernels)
    zoom = max(1, min(8, room // largest))
    panel = Image.new("L", (side, side))
    for index, kernel in enumerate(kernels):
        values = np.sqrt(kernel / kernel.max()) * 255
        picture = Image.fromarray(values.astype(np.uint8))
        size = (kernel.shape[1] * zoom, kernel.shape[0] * zoom)
        if max(size) > room:
            picture.thumbnail((room, room))
        else:
            picture = picture.resize(size, Image.Resampling.NEAREST)
        row, column = divmod(index, per_row)
        panel.paste(
            picture,
            (
                column * room + (room - picture.width) // 2,
                row * room + (room - picture.height) // 2,
            ),
        )
    return np.asarray(panel.convert("RGB"))


def describe(records: Sequence[Record]) -> str:
    """What was drawn, in a line: shake extent 12.3 exposure 0.41, noise read 0.0021 …"""
    parts = []
    for record in records:
        inner = record.get("steps") or record.get("blurs") or []
        if isinstance(record.get("blur"), dict):
            inner = [record["blur"]]
        drawn = " ".join(
            f"{key} {value}" if isinstance(value, str) else f"{key} {value:.3g}"
            for key, value in record.items()
            if isinstance(value, str | int | float) and key not in ("seed", "step")
        )
        name = "" if record["step"] == "linear_light" else f"{record['step']} {drawn}".strip()
        nested = describe(inner) if inner else ""
        if name and nested:
            parts.append(f"{name} ({nested})")
        else:
            parts.append(name or nested)
    return ", ".join(part for part in parts if part)
