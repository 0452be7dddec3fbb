"""Files that appear whole or not at all, and names for them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it on success and removed otherwise."""
    # Hidden and ending in .partial, so that no listing takes it for a photo; the start of the name
    # alone, so that the longest legal names still have room.
    temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, error: type[Exception]) -> None:
    """Make a folder and those above it, unless it is there. Raises `error`, one line for users."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise error(f"{folder}: cannot be made ({cause.strerror})") from cause


def printable(name: str) -> str:
    """A name as reports can have it, also of a file whose name is not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def sha256_of(path: Path) -> str:
    """The hash of a file's content, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(values, indent=1, ensure_ascii=False)
        temporary.write_text(printable(text), encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file, complete or not at all, with a column for every key of any row."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def require_relative(name: str, error: type[Exception]) -> None:
    """Raise `error`, one line for users, for a name whose file would lie outside of a folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise error(f"{name}: is no name that a file can be made of")


def file_name(text: str) -> str:
    """A name that can stand in a path on any system; different texts have different ones."""
    name = re.sub(r"[^\w.+=-]+", "-", text).strip(".-")[:80]
    if name == text:
        return name
    content = text.encode("utf-8", "surrogateescape")  # of names that are not UTF-8
    return f"{name[:70]}-{hashlib.sha256(content).hexdigest()[:6]}"
