"""Folders that this package writes: a manifest that says what each image is and where it lies.

The same few lines describe single files and tar shards, on a disk or on a web server, so all are
read alike: the layout `prepared`.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from unblur.data.dataset import Pair
from unblur.data.errors import DataError
from unblur.data.sources import StoredSource, fetch, is_url
from unblur.files import atomic_path

MANIFEST = "manifest.jsonl"
PROGRESS = "manifest.partial.jsonl"  # rows that are finished, in any order
ABOUT = "unblur.json"  # how the folder is made
_FORMAT = "unblur-data-1"
_LARGEST = 2**30  # bytes of a manifest


@dataclass(frozen=True)
class Stored:
    """An image's place: `length` bytes at `offset` in a file named relative to the manifest."""

    file: str
    offset: int
    length: int
    sha256: str
    width: int
    height: int


def stored(file: str, content: bytes, size: tuple[int, int], offset: int = 0) -> Stored:
    """The place of an encoded image of size (width, height)."""
    digest = hashlib.sha256(content).hexdigest()
    return Stored(file, offset, len(content), digest, *size)


@dataclass(frozen=True)
class Row:
    """One pair. kernel: a .npy file, when one kernel made the whole blur. blur: what was drawn."""

    name: str
    sequence: str
    subset: str
    sharp: Stored | None
    blurred: Stored | None = None
    part: str = ""
    weight: float = 1.0
    source: str = ""
    kernel: str | None = None
    blur: list[dict[str, Any]] = field(default_factory=list)


def write_manifest(folder: Path, about: dict[str, Any], rows: Iterable[Row]) -> None:
    """Write a folder's manifest, complete or not at all; `about` says how it was made."""
    with (
        atomic_path(folder / MANIFEST) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        rows = list(rows)
        file.write(json.dumps({"format": _FORMAT, "rows": len(rows), **about}) + "\n")
        for row in rows:
            file.write(json.dumps(asdict(row)) + "\n")


def read_rows(root: Path | str) -> list[Row]:
    """The rows of a folder's manifest. Raises DataError that says what is wrong with it."""
    place = _inside(root, MANIFEST)
    try:
        if is_url(place):
            content = fetch(place, _LARGEST)
        elif Path(place).stat().st_size > _LARGEST:
            raise DataError(f"{place}: is larger than {_LARGEST >> 20} MiB")
        else:
            content = Path(place).read_bytes()
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error})") from error
    try:
        header, *lines = content.decode("utf-8").splitlines()
        about = json.loads(header)
        if about.get("format") != _FORMAT:
            raise ValueError("it has another format")
        if about.get("rows") != len(lines):
            raise ValueError(f"it has {len(lines)} of {about.get('rows')} rows")
        return [read_row(json.loads(line)) for line in lines]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{place}: is damaged or no manifest of unblur ({error})") from error


def read_prepared(root: Path | str) -> tuple[list[Pair], list[str]]:
    """The pairs of a folder or URL that `unblur data prepare`, `synthesize` or `shard` wrote."""
    rows = read_rows(root)
    pairs = []
    for row in rows:
        if row.sharp is None:
            raise DataError(
                f"{root}: holds blurred copies only; make pairs, without --only-blurred"
            )
        blurred = None if row.blurred is None else _source(root, row.blurred)
        sharp = _source(root, row.sharp)
        kernel = None if row.kernel is None else _inside(root, row.kernel)
        pairs.append(
            Pair(
                row.name,
                row.sequence,
                sharp,
                blurred,
                subset=row.subset,
                part=row.part,
                weight=row.weight,
                kernel=kernel,
                blur=tuple(row.blur),
            )
        )
    return pairs, short_files(root, rows)


def is_prepared(root: Path) -> bool:
    return (root / MANIFEST).is_file()


def is_unfinished(root: Path) -> bool:
    """Whether a command began to fill a folder and was interrupted."""
    return (root / ABOUT).is_file() and not is_prepared(root)


def read_row(values: dict[str, Any]) -> Row:
    """A row from its JSON. Raises ValueError, TypeError or KeyError for what is none."""
    _require_inside(values["name"])  # results are saved under it
    if values.get("kernel") is not None:
        _require_inside(values["kernel"])
    for side in ("sharp", "blurred"):
        if values.get(side) is not None:
            place = Stored(**values[side])
            _require_inside(place.file)
            if min(place.offset, place.length, place.width, place.height) < 0:
                raise ValueError(f"{place.file} has a negative size")
            values[side] = place
    return Row(**values)


def _require_inside(file: str) -> None:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or _leaves_on_windows(file):
        raise ValueError(f"{file} lies outside the folder")


def _leaves_on_windows(file: str) -> bool:
    return os.name == "nt" and ("\\" in file or ":" in file)


def _inside(root: Path | str, file: str) -> str:
    if is_url(str(root)):
        return f"{str(root).rstrip('/')}/{urllib.parse.quote(file)}"
    return str(Path(root) / file)


def _source(root: Path | str, place: Stored) -> StoredSource:
    size = (place.width, place.height)
    location = _inside(root, place.file)
    return StoredSource(location, place.offset, place.length, size, place.sha256)


def short_files(root: Path | str, rows: list[Row]) -> list[str]:
    """Files that are missing or end too early; those on servers are found when they are read."""
    if is_url(str(root)):
        return []
    needed: dict[str, int] = {}
    for row in rows:
        for place in (row.sharp, row.blurred):
            if place is not None:
                end = place.offset + place.length
                needed[place.file] = max(needed.get(place.file, 0), end)
    problems = []
    for file, end in needed.items():
        path = Path(root) / file
        if not path.is_file():
            problems.append(f"{path}: is missing, though the manifest names it")
        elif path.stat().st_size < end:
            problems.append(
                f"{path}: is truncated, has {path.stat().st_size} of at least {end} bytes"
            )
    return problems
