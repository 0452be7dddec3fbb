"""Data sets → new folders of images: picked, resized, cut or blurred."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unblur.blur import Degradation, Drawn, spoil
from unblur.blur.steps import Record
from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.manifest import Row, Stored, stored
from unblur.data.output import OutputFolder, encode_png, encoded
from unblur.data.randomness import generator
from unblur.data.sources import AveragedSource, ImageSource
from unblur.data.transforms import averaged
from unblur.files import require_relative

# Called with (images done, images in all).
Progress = Callable[[int, int], None]


def prepare(
    dataset: Dataset,
    folder: Path,
    about: dict[str, Any],
    progress: Progress | None = None,
    workers: int = 2,
) -> int:
    """Write the images of a data set, which may be picked, resized or patched, into a folder.

    Pairs go to `blur/` and `sharp/`, sharp images alone to `sharp/`. about: how the data set was
    changed; a folder begun with the same is gone on with. Returns how many images or pairs.
    """
    output = OutputFolder(folder, {"command": "prepare", **about}, dataset)

    def make(pair: Pair) -> Row:
        sides = {}
        for side, source in (("sharp", pair.sharp), ("blur", pair.blurred)):
            if source is not None:
                content, extension, size = encoded(source)
                file = _file(side, pair.name, extension)
                output.write(file, content)
                sides[side] = stored(file, content, size)
        row = row_of(pair, pair.name, sides["sharp"], sides.get("blur"))
        return replace(row, kernel=kept_kernel(output, pair))

    return _run(output, {pair.name: pair for pair in dataset.pairs}, make, progress, workers)


@dataclass(frozen=True)
class _Variant:
    """One blur of one photo: the 0th, the 1st …"""

    pair: Pair
    name: str
    number: int


def synthesize(
    dataset: Dataset,
    degradation: Degradation,
    folder: Path,
    *,
    count: int | None = None,
    seed: int = 42,
    only_blurred: bool = False,
    progress: Progress | None = None,
    workers: int = 2,
) -> int:
    """Blur the sharp images of a data set into `blur/`, with the sharp ones in `sharp/`.

    count: how many pairs; the images are gone through as often as needed, each time with other
        random choices. One of each by default.
    only_blurred: leave the sharp ones out.
    The manifest says what was drawn for each; a single kernel is also written to `kernels/`. What
    is drawn depends on `seed` and on the image's name, not on the other images.
    Returns how many pairs.
    """
    if degradation.frames is not None:
        dataset = averaged(dataset, degradation.frames, seed)
    variants = _variants(dataset.pairs, len(dataset.pairs) if count is None else count)
    settings = {
        "command": "synthesize",
        "blur": degradation.name,
        "steps": repr((degradation.frames, degradation.step)),
        "count": count,
        "seed": seed,
        "only_blurred": only_blurred,
    }
    output = OutputFolder(folder, settings, dataset)

    def make(variant: _Variant) -> Row:
        pair, name = variant.pair, variant.name
        drawn = degradation.draw(generator(seed, pair.name, variant.number))
        sharp = pair.sharp.load()
        frames = pair.blurred if degradation.frames is not None else None
        given = sharp if frames is None else frames.load()
        sides = {"blur": spoil(drawn, given)}
        if not only_blurred:
            sides["sharp"] = spoil(drawn.target, sharp)
        places = {}
        for side, pixels in sides.items():
            content, file = encode_png(pixels), _file(side, name, ".png")
            output.write(file, content)
            places[side] = stored(file, content, (pixels.shape[1], pixels.shape[0]))
        kernel = _write_kernel(output, name, drawn) if frames is None else None
        records = [*_frames_record(frames), *drawn.records]
        return replace(
            row_of(pair, name, places.get("sharp"), places["blur"]), kernel=kernel, blur=records
        )

    return _run(output, {variant.name: variant for variant in variants}, make, progress, workers)


def row_of(pair: Pair, name: str, sharp: Stored | None, blurred: Stored | None) -> Row:
    """A row that keeps what is known of a pair."""
    return Row(
        name,
        pair.sequence,
        pair.subset,
        sharp,
        blurred,
        part=pair.part,
        weight=pair.weight,
        source=pair.sharp.label,
        blur=[] if blurred is None else list(pair.blur),
    )


def kept_kernel(output: OutputFolder, pair: Pair) -> str | None:
    """Where a copy of the kernel that made a pair's blur lies; None where it is not at hand."""
    if pair.kernel is None or not Path(pair.kernel).is_file():
        return None
    file = _file("kernels", pair.name, ".npy")
    output.write(file, Path(pair.kernel).read_bytes())
    return file


def _frames_record(source: ImageSource | None) -> list[Record]:
    if not isinstance(source, AveragedSource):
        return []
    labels = [frame.label for frame in source.frames]
    return [{"step": "frames", "window": len(labels), "gamma": source.gamma, "frames": labels}]


def _write_kernel(output: OutputFolder, name: str, drawn: Drawn) -> str | None:
    """Store the kernel of a blur that has a single one."""
    if drawn.kernel is None:
        return None
    buffer = io.BytesIO()
    np.save(buffer, drawn.kernel)
    file = _file("kernels", name, ".npy")
    output.write(file, buffer.getvalue())
    return file


def _variants(pairs: Sequence[Pair], count: int) -> list[_Variant]:
    if count < 1:
        raise DataError(f"--count must be at least 1, got {count}")
    several = count > len(pairs)
    variants = []
    for index in range(count):
        number, pair = index // len(pairs), pairs[index % len(pairs)]
        name = f"{pair.name}/{number + 1:03}" if several else pair.name
        variants.append(_Variant(pair, name, number))
    return variants


def _file(side: str, name: str, extension: str) -> str:
    """Where an image goes, below the folder that is written."""
    require_relative(name, DataError)
    return f"{side}/{name}{extension}"


def _run(
    output: OutputFolder,
    items: dict[str, Any],
    make: Callable[[Any], Row],
    progress: Progress | None,
    workers: int,
) -> int:
    """Make all items that are not done yet, several at a time, and close the folder."""
    if output.is_finished:
        return len(items)
    waiting = [item for name, item in items.items() if name not in output.done]
    done = len(items) - len(waiting)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for row in pool.map(make, waiting):
                output.finished([row])
                done += 1
                if progress:
                    progress(done, len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    output.close(list(items))
    return len(items)
