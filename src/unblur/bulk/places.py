"""Folders and buckets alike: list, read, and write whole files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs as arrow

from unblur.bulk.errors import BulkError
from unblur.files import printable
from unblur.imaging import PHOTO_EXTENSIONS

OWN_FOLDER = "_unblur"  # in a destination: settings and manifest, no photos


@dataclass(frozen=True)
class Place:
    """A folder of a file system: a path, or an address such as s3://bucket/photos.

    Local paths, s3:// and gs:// are known to pyarrow; other addresses need their fsspec package.
    """

    address: str

    def _open(self) -> tuple[Any, str]:
        try:
            if "://" not in self.address:
                if printable(self.address) != self.address:
                    raise ValueError("its name is not UTF-8; rename it")
                return arrow.LocalFileSystem(), os.path.abspath(self.address)
            try:
                return arrow.FileSystem.from_uri(self.address)
            except ValueError:  # pyarrow does not know the scheme
                import fsspec

                system, path = fsspec.core.url_to_fs(self.address)
                return arrow.PyFileSystem(arrow.FSSpecHandler(system)), path
        except (OSError, ValueError, ImportError) as error:
            name = printable(self.address)
            raise BulkError(f"{name}: cannot be opened ({_said(error)})") from error

    @property
    def identity(self) -> str:
        """What it is told from other places by, however it is written. Raises BulkError."""
        system, base = self._open()
        real = os.path.realpath(base) if isinstance(system, arrow.LocalFileSystem) else base
        return f"{system.type_name}:{real.rstrip('/')}"

    def contains(self, other: Place) -> bool:
        """Whether another place is this one, or lies in it. Raises BulkError."""
        return f"{other.identity}/".startswith(f"{self.identity}/")

    def photos(self, missing_ok: bool = False) -> Iterator[str]:
        """The names of all photos below, relative to the place, without hidden ones.

        Bytes of a name that are no UTF-8 are surrogates, as those of `os.listdir` are.
        missing_ok: a place that does not exist holds none. Raises BulkError.
        """
        system, base = self._open()
        if system.get_file_info(base).type == arrow.FileType.File:
            raise BulkError(f"{self.address}: is a file; name the folder that it lies in")
        try:
            if isinstance(system, arrow.LocalFileSystem):
                names = [] if missing_ok and not Path(base).exists() else list(_below(base))
            else:
                selector = arrow.FileSelector(base, allow_not_found=missing_ok, recursive=True)
                found = system.get_file_info(selector)
                files = (info for info in found if info.type == arrow.FileType.File)
                names = [info.path[len(base) :].lstrip("/") for info in files]
        except OSError as error:
            raise BulkError(f"{self.address}: cannot be listed ({_said(error)})") from error
        for name in sorted(names):
            path = PurePosixPath(name)
            if path.suffix.lower() not in PHOTO_EXTENSIONS:
                continue
            if not any(part.startswith(".") or part == OWN_FOLDER for part in path.parts):
                yield name

    def names(self, folder: str) -> list[str]:
        """The files right in a folder of the place; none where it does not exist."""
        system, base = self._open()
        selector = arrow.FileSelector(f"{base}/{folder}", allow_not_found=True)
        return [i.path[len(base) :].lstrip("/") for i in system.get_file_info(selector)]

    def read(self, name: str, most: int) -> bytes:
        """A file's content. Raises OSError, also for files of more than `most` bytes."""
        system, base = self._open()
        with system.open_input_file(f"{base}/{name}") as file:
            if file.size() > most:
                raise OSError(f"larger than {most / 1e6:g} MB")
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all. Raises OSError."""
        system, base = self._open()
        path = f"{base}/{name}"
        if isinstance(system, arrow.LocalFileSystem):
            # Objects of buckets appear whole; files do not. Two workers may write the same one: of
            # two runs at a time, or when one is taken for dead. Hidden files are no photos.
            folder = path.rpartition("/")[0]
            system.create_dir(folder, recursive=True)
            temporary = f"{folder}/.{uuid.uuid4().hex}.partial"
            try:
                with system.open_output_stream(temporary) as stream:
                    stream.write(content)
                system.move(temporary, path)
            except BaseException:
                if system.get_file_info(temporary).type == arrow.FileType.File:
                    system.delete_file(temporary)
                raise
        else:
            with system.open_output_stream(path) as stream:
                stream.write(content)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        system, base = self._open()
        return bool(system.get_file_info(f"{base}/{name}").type == arrow.FileType.File)


def _below(folder: str) -> Iterator[str]:
    """The files below a folder of this machine. Linked folders are not entered: they may lead
    round in circles. Raises OSError."""

    def refuse(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        for path in (Path(place, name) for name in names):
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
