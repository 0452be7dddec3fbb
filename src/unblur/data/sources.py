"""Single images of a data set, wherever they are stored or whatever they are made of."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.blur import BlurError, average_frames
from unblur.data.errors import DataError
from unblur.imaging import ImageError, Photo, probe_size, read_photo
from unblur.imaging.photo import as_colours, to_eight_bit

Pixels = NDArray[np.uint8]

_PATIENCE = 30  # seconds that a server may take to answer
_ATTEMPTS = 3


class ImageSource(Protocol):
    """One image that can be loaded when it is needed."""

    @property
    def label(self) -> str:
        """What messages call it: a path, or a place in an archive."""
        ...

    @property
    def key(self) -> str:
        """Names its content: another one when the file has changed."""
        ...

    def size(self) -> tuple[int, int]:
        """(width, height), without decoding pixels where that is possible."""
        ...

    def load(self) -> Pixels:
        """Its pixels, H×W×3 uint8; raises DataError."""
        ...


def _colours(photo: Photo) -> Pixels:
    """H×W×3 uint8: grey and 16-bit photos are converted, transparency is dropped."""
    colours: Pixels = as_colours(to_eight_bit(photo.pixels))
    return colours


@dataclass(frozen=True)
class FileSource:
    """An image file; grey and 16-bit ones are converted, transparency is dropped."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def key(self) -> str:
        try:
            status = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        return f"{self.path.absolute()}|{status.st_size}|{status.st_mtime_ns}"

    def size(self) -> tuple[int, int]:
        size = probe_size(self.path)
        if size == (0, 0):
            self.photo()  # raises the error that says why
        return size

    def content(self) -> bytes:
        """The bytes of the file; raises DataError."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error

    def photo(self) -> Photo:
        """The file as the imaging package reads it."""
        try:
            return read_photo(self.path)
        except ImageError as error:
            raise DataError(str(error)) from error

    def load(self) -> Pixels:
        return _colours(self.photo())


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image that is in memory already, H×W×3 uint8."""

    label: str
    pixels: Pixels

    @property
    def key(self) -> str:
        return self.label

    def size(self) -> tuple[int, int]:
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def load(self) -> Pixels:
        return self.pixels


@dataclass(frozen=True)
class StoredSource:
    """An image file inside a larger file, here or on a web server.

    location: a path or an http(s) URL. offset, length: its place there, in bytes.
    dimensions: (width, height). digest: SHA-256 of its bytes.
    """

    location: str
    offset: int
    length: int
    dimensions: tuple[int, int]
    digest: str

    @property
    def label(self) -> str:
        return f"{self.location}[{self.offset}]"

    @property
    def key(self) -> str:
        return self.digest

    def size(self) -> tuple[int, int]:
        return self.dimensions

    def content(self) -> bytes:
        """The bytes of the image file. Raises DataError unless they are what they should be."""
        content = read_bytes(self.location, self.offset, self.length)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise DataError(f"{self.label}: is damaged or was changed; copy or make it again")
        return content

    def photo(self) -> Photo:
        """The file as the imaging package reads it."""
        content = self.content()
        try:
            return read_photo(content, name=self.label)
        except ImageError as error:
            raise DataError(str(error)) from error

    def load(self) -> Pixels:
        return _colours(self.photo())


def is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def read_bytes(location: str, offset: int, length: int) -> bytes:
    """Some bytes of a file or of a web resource. Raises DataError when there are fewer."""
    try:
        if is_url(location):
            content = fetch(location, length, (offset, length))
        else:
            with Path(location).open("rb") as file:
                file.seek(offset)
                content = file.read(length)
    except OSError as error:
        raise DataError(f"{location}: cannot be read ({error})") from error
    if len(content) != length:
        raise DataError(
            f"{location}: is truncated, {len(content)} of {length} bytes at {offset} are there; "
            "copy or make it again"
        )
    return content


def fetch(url: str, limit: int, part: tuple[int, int] | None = None) -> bytes:
    """What a web server has at an http(s) URL: all of it, or (offset, length) bytes.

    Raises DataError when the server refuses or sends more than `limit` bytes, OSError when it
    cannot be reached in several attempts.
    """
    headers = {} if part is None else {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"}
    try:
        address = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
        request = urllib.request.Request(address, headers=headers)  # noqa: S310  (is_url)
    except ValueError as error:
        raise DataError(f"{url}: is no URL ({error})") from error
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
                if part is not None and answer.status != 206:
                    raise DataError(f"{url}: the server sends no parts of files; copy it here")
                content: bytes = answer.read(limit + 1)
                announced = answer.headers.get("Content-Length")
                if announced is not None and len(content) < min(int(announced), limit + 1):
                    raise http.client.IncompleteRead(content)
                if len(content) > limit:
                    raise DataError(f"{url}: is larger than {limit} bytes")
                return content
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _ATTEMPTS:
                raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS:
                raise OSError(str(error)) from error
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class ResizedSource:
    """An image reduced or enlarged to width × height, bicubic with antialiasing."""

    source: ImageSource
    width: int
    height: int

    @property
    def label(self) -> str:
        return f"{self.source.label} at {self.width}×{self.height}"

    @property
    def key(self) -> str:
        return f"{self.source.key}|{self.width}×{self.height}"

    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def load(self) -> Pixels:
        picture = Image.fromarray(self.source.load())
        return np.asarray(picture.resize((self.width, self.height), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class PatchSource:
    """One cell of a grid of equal cells; what does not divide is left over at right and bottom."""

    source: ImageSource
    row: int
    column: int
    rows: int
    columns: int

    @property
    def label(self) -> str:
        return f"{self.source.label}, patch {self.row + 1},{self.column + 1}"

    @property
    def key(self) -> str:
        return f"{self.source.key}|{self.row},{self.column} of {self.rows}×{self.columns}"

    def size(self) -> tuple[int, int]:
        width, height = self.source.size()
        return width // self.columns, height // self.rows

    def load(self) -> Pixels:
        return self.cut(self.source.load())

    def cut(self, pixels: Pixels) -> Pixels:
        """Its part of the whole image's pixels."""
        height, width = pixels.shape[0] // self.rows, pixels.shape[1] // self.columns
        if min(height, width) < 1:
            raise DataError(
                f"{self.source.label}: is too small for {self.rows} × {self.columns} patches"
            )
        top, left = self.row * height, self.column * width
        return pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class AveragedSource:
    """The mean of consecutive frames (`blur.average_frames`)."""

    frames: tuple[ImageSource, ...]
    gamma: float | None = None

    @property
    def label(self) -> str:
        return f"mean of {len(self.frames)} frames from {self.frames[0].label}"

    @property
    def key(self) -> str:
        return "|".join([*(frame.key for frame in self.frames), f"gamma {self.gamma}"])

    def size(self) -> tuple[int, int]:
        return self.frames[0].size()

    def load(self) -> Pixels:
        try:
            return average_frames([frame.load() for frame in self.frames], self.gamma)
        except BlurError as error:
            raise DataError(f"{self.label}: {error}") from error
