"""Data sets → tar shards: large files that are quick to copy and to read from disks and servers.

The shards are those of WebDataset (https://github.com/webdataset/webdataset): the files of a
sample stand together and share a name. The manifest adds where each file begins, so that any
sample can be read at once, without the ones before it; hence every worker and rank reads just
its own, in any order, and resumes anywhere.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.manifest import Row, Stored, stored
from unblur.data.output import OutputFolder, encoded
from unblur.data.prepare import Progress, kept_kernel, row_of
from unblur.data.randomness import generator
from unblur.data.splits import Split
from unblur.files import atomic_path

_Encoded = tuple[Pair, dict[str, tuple[bytes, str, tuple[int, int]]]]


def write_shards(
    dataset: Dataset,
    folder: Path,
    *,
    split: Split | None = None,
    per_shard: int = 100,
    seed: int = 42,
    progress: Progress | None = None,
    workers: int = 2,
) -> list[str]:
    """Pack a data set into tar files, in an order drawn by `seed`; returns their names.

    split: separate shards for training and validation, else one series. per_shard: samples in one.
    A command that was interrupted goes on with the first shard that is not complete.
    """
    if per_shard < 1:
        raise DataError(f"a shard holds at least one sample, got {per_shard}")
    about: dict[str, Any] = {"command": "shard", "per_shard": per_shard, "seed": seed}
    if split is not None:
        about["split"] = json.loads(split.to_json())
    output = OutputFolder(folder, about, dataset)
    plan = _plan(dataset, split, per_shard, seed)
    names = [pair.name for _, pairs in plan for pair in pairs]
    if output.is_finished:
        return [file for file, _ in plan]
    with ThreadPoolExecutor(workers) as pool:
        for file, pairs in plan:
            if any(pair.name not in output.done for pair in pairs):
                part = file.rsplit("-", 1)[0] if split is not None else None
                rows = _write_shard(output.folder / file, pairs, part, pool)
                kernels = [kept_kernel(output, pair) for pair in pairs]
                output.finished(
                    [replace(row, kernel=kernel) for row, kernel in zip(rows, kernels, strict=True)]
                )
            if progress:
                progress(len(output.done), len(names))
    output.close(names)
    return [file for file, _ in plan]


def _plan(
    dataset: Dataset, split: Split | None, per_shard: int, seed: int
) -> list[tuple[str, list[Pair]]]:
    """The shards' names and pairs."""
    if split is None:
        parts = {"all": list(dataset.pairs)}
    else:
        parts = {"train": split.part(dataset, "train"), "val": split.part(dataset, "val")}
    plan = []
    for part, pairs in parts.items():
        order = generator(seed, part).permutation(len(pairs))
        for number, start in enumerate(range(0, len(pairs), per_shard)):
            chosen = [pairs[index] for index in order[start : start + per_shard]]
            plan.append((f"{part}-{number:06}.tar", chosen))
    return plan


def _encode(pair: Pair) -> _Encoded:
    sides = {"sharp": encoded(pair.sharp)}
    if pair.blurred is not None:
        sides["blurred"] = encoded(pair.blurred)
    return pair, sides


def _write_shard(
    path: Path, pairs: list[Pair], part: str | None, pool: ThreadPoolExecutor
) -> list[Row]:
    rows = []
    try:
        with atomic_path(path) as temporary:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for number, (pair, sides) in enumerate(pool.map(_encode, pairs)):
                    rows.append(_add(tar, path, number, pair, sides, part))
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    return rows


def _add(
    tar: tarfile.TarFile,
    path: Path,
    number: int,
    pair: Pair,
    sides: dict[str, tuple[bytes, str, tuple[int, int]]],
    part: str | None,
) -> Row:
    key = f"{path.stem}-{number:06}"
    places: dict[str, Stored] = {}
    for side, (content, extension, size) in sides.items():
        offset = _add_file(tar, f"{key}.{side}{extension}", content)
        places[side] = stored(path.name, content, size, offset)
    row = row_of(pair, pair.name, places["sharp"], places.get("blurred"))
    row = replace(row, subset=part or pair.subset)
    about = {"name": row.name, "sequence": row.sequence, "subset": row.subset}
    _add_file(tar, f"{key}.json", json.dumps(about).encode())
    return row


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a file; returns where its content begins in the archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    begin = tar.offset + tarfile.BLOCKSIZE  # after a header of one block
    tar.addfile(info, io.BytesIO(content))
    return begin
