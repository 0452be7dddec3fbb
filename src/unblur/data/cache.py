"""Decoded images kept for later: reading part of an array is far quicker than decoding a PNG."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from unblur.data.errors import DataError
from unblur.data.sources import ArraySource, ImageSource, PatchSource, Pixels
from unblur.files import atomic_path

_GIBIBYTE = 2**30


class ImageCache:
    """Keeps decoded images, in memory or as memory-mapped files that processes share.

    folder: where to keep them; None for memory, in which case each worker has its own.
    limit: in bytes; by default a GiB in memory, and in a folder all but a GiB of what its disk has
        left. What comes after is decoded every time: training visits all images equally often, so
        replacing old ones by new ones would help none.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = folder
        self._images: dict[str, Pixels] = {}
        self._used = self._kept = 0
        most = _GIBIBYTE
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._used = self._on_disk(folder)
                most = self._used + shutil.disk_usage(folder).free - _GIBIBYTE
            except OSError as error:
                raise DataError(f"{folder}: cannot be used as cache ({error.strerror})") from error
        self.limit = most if limit is None else limit

    def load(self, source: ImageSource) -> Pixels:
        """The pixels of a source, H×W×3 uint8, not to be written to. Raises DataError."""
        if isinstance(source, ArraySource):
            return source.pixels
        if isinstance(source, PatchSource):
            return source.cut(self.load(source.source))
        key = source.key
        kept = self._images.get(key) if self.folder is None else self._open(key)
        if kept is not None:
            return kept
        pixels = source.load()
        if self._used + pixels.nbytes <= self.limit:
            self._keep(key, pixels)
        return pixels

    @staticmethod
    def _on_disk(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("*.npy"))

    def _path(self, key: str) -> Path:
        assert self.folder is not None  # noqa: S101
        return self.folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.npy"

    def _open(self, key: str) -> Pixels | None:
        try:
            pixels = np.load(self._path(key), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return pixels if pixels.ndim == 3 and pixels.dtype == np.uint8 else None

    def _keep(self, key: str, pixels: Pixels) -> None:
        if self.folder is None:
            self._images[key] = pixels
        else:
            path = self._path(key)
            try:
                with atomic_path(path) as temporary, temporary.open("wb") as file:
                    np.save(file, pixels)
            except OSError:  # a full disk only means that no more is kept
                self.limit = 0
                return
            self._kept += 1
            if self._kept % 8 == 0:  # other processes fill the same folder
                self._used = self._on_disk(path.parent)
        self._used += pixels.nbytes
