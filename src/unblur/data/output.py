"""A folder that a command fills, and goes on filling after it was interrupted."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur import __version__
from unblur.data.dataset import Dataset, require_outside
from unblur.data.errors import DataError
from unblur.data.manifest import (
    ABOUT,
    MANIFEST,
    PROGRESS,
    Row,
    read_row,
    read_rows,
    short_files,
    write_manifest,
)
from unblur.data.sources import FileSource, ImageSource, StoredSource
from unblur.files import atomic_path

# As they are, these need no second encoding.
_KEPT_AS_THEY_ARE = {
    ".png": re.compile(rb"\x89PNG"),
    ".jpg": re.compile(rb"\xff\xd8\xff"),
    ".webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}


class OutputFolder:
    """The folder, its settings and the rows that are finished.

    about: how its content is made. A folder that was begun with other settings, or that holds
        something else, is refused with DataError; nothing in it is ever replaced.
    """

    def __init__(self, folder: Path, about: dict[str, Any], source: Dataset) -> None:
        self.folder = folder
        self.about = {"unblur": __version__, "data": source.spec, **about, **_fingerprint(source)}
        self._lock = threading.Lock()
        self.done: dict[str, Row] = {}
        require_outside(folder, source.roots)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror})") from error

    @property
    def is_finished(self) -> bool:
        return (self.folder / MANIFEST).is_file()

    def _begin(self) -> None:
        about = self.folder / ABOUT
        if about.is_file():
            try:
                before = json.loads(about.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{about}: is damaged; choose another folder") from error
            wanted = json.loads(json.dumps(self.about))
            different = [k for k in {**before, **wanted} if before.get(k) != wanted.get(k)]
            if different:
                key = different[0]
                if key == "fingerprint":
                    raise DataError(
                        f"{self.folder}: was made of other images, {wanted['data']} has changed; "
                        "choose another folder, or remove this one"
                    )
                raise DataError(
                    f"{self.folder}: was made with other settings ({key} {before.get(key)!r}, "
                    f"not {wanted.get(key)!r}); choose another folder, or remove this one"
                )
        elif any(self.folder.iterdir()):
            raise DataError(f"{self.folder}: is not empty; choose another folder")
        else:
            with atomic_path(about) as temporary:
                temporary.write_text(json.dumps(self.about, indent=1), encoding="utf-8")
        if self.is_finished:
            problems = short_files(self.folder, read_rows(self.folder))
            if problems:
                raise DataError(f"{problems[0]}; remove {self.folder} and make it again")
        partial = self.folder / PROGRESS
        if partial.is_file():
            for line in partial.read_text(encoding="utf-8").splitlines():
                try:
                    row = read_row(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    continue  # cut off when the command was killed: made again
                if not short_files(self.folder, [row]):
                    self.done[row.name] = row

    def write(self, name: str, content: bytes) -> None:
        """Write one file below the folder, complete or not at all."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error

    def finished(self, rows: list[Row]) -> None:
        """Remember rows whose files are all written."""
        path = self.folder / PROGRESS
        try:
            with self._lock, path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
                self.done.update((row.name, row) for row in rows)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error

    def close(self, order: list[str]) -> None:
        """Write the manifest, with rows in the order of these names: the folder is complete."""
        try:
            write_manifest(self.folder, self.about, (self.done[name] for name in order))
            (self.folder / PROGRESS).unlink(missing_ok=True)
            for left in self.folder.rglob(".*.partial"):  # of a command that was killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror})") from error


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """H×W×3 uint8 → a PNG file, quickly rather than as small as possible."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encoded(source: ImageSource) -> tuple[bytes, str, tuple[int, int]]:
    """An image as a file's bytes, its extension and (width, height).

    PNG, JPEG and WebP files are taken as they are; everything else becomes PNG.
    """
    pixels = source.load()  # also of files that are copied, so that damage is found here
    size = (pixels.shape[1], pixels.shape[0])
    if isinstance(source, FileSource | StoredSource):
        content = source.content()
        for extension, begin in _KEPT_AS_THEY_ARE.items():
            if begin.match(content):
                return content, extension, size
    return encode_png(pixels), ".png", size


def _fingerprint(dataset: Dataset) -> dict[str, str]:
    """Changes with the images of a data set."""
    digest = hashlib.sha256()
    for pair in dataset.pairs:
        keys = [source.key for source in (pair.sharp, pair.blurred) if source is not None]
        digest.update("\0".join([pair.name, *keys]).encode("utf-8", "surrogateescape"))
    return {"fingerprint": digest.hexdigest()}
