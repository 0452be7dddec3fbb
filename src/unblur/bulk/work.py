"""What one worker does: a batch of names → files, and a part of the manifest."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unblur.bulk.places import OWN_FOLDER, Place
from unblur.imaging import (
    ImageError,
    allow_large_photos,
    encode_photo,
    format_of,
    output_format,
    parse_format,
    read_photo,
)
from unblur.inference import ModelError
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.runtimes.choice import precision

PARTS = f"{OWN_FOLDER}/parts"
SCHEMA = pa.schema(
    [
        ("input", pa.string()),
        ("output", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("seconds", pa.float64()),
        ("model", pa.string()),
        ("worker", pa.string()),
        ("finished", pa.timestamp("ms", tz="UTC")),
    ]
)


@dataclass(frozen=True)
class Settings:
    """How every photo is treated; a worker on another machine gets the same."""

    model: str = "small"
    strength: float = 1.0
    format: str | None = None
    quality: int | None = None
    runtime: str = "auto"
    device: str = "auto"
    threads: int | None = 1
    max_pixels: int = 170_000_000
    max_bytes: int = 1_000_000_000

    def about(self, weights: str) -> dict[str, Any]:
        """What results depend on."""
        kept = ("strength", "format", "quality")
        own = {name: asdict(self)[name] for name in kept}
        return {"weights": weights, "precision": precision(self.runtime)} | own


def output_name(name: str, format_: str | None) -> str:
    """Where a photo's result goes: its own name, with another extension after it where the format
    is another one."""
    read_as = format_of(PurePosixPath(name)) or "PNG"
    written = parse_format(format_) if format_ else output_format(read_as)
    return name if written.name == read_as else f"{name}{written.extension}"


class Worker:
    """Restores batches of photos from one place to another; holds the model.

    A batch that is done again, because a machine died before it could say that it was done,
    replaces the very same files.
    """

    def __init__(self, source: str, destination: str, settings: Settings) -> None:
        allow_large_photos(settings.max_pixels)
        self._source, self._destination = Place(source), Place(destination)
        self._settings = settings
        self._deblurrer = Deblurrer(
            settings.model, settings.runtime, settings.device, threads=settings.threads
        )
        self._name = f"{os.uname().nodename}/{os.getpid()}"

    def __call__(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The manifest's rows of these photos, which are stored, too."""
        rows = [self._row(str(name)) for name in names]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer)
        digest = hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()[:32]
        self._destination.write(f"{PARTS}/{digest}.parquet", buffer.getvalue())
        return rows

    def _row(self, name: str) -> dict[str, Any]:
        began = time.perf_counter()
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        row |= {"input": name, "status": "failed", "model": self._deblurrer.card.name}
        try:
            row |= self._restore(name)
        except (ImageError, ModelError, MemoryError, OSError, ValueError) as error:
            row["error"] = str(error) or type(error).__name__
        except Exception as error:  # whatever one file provokes must not cost the others
            row["error"] = f"unexpected {type(error).__name__}: {str(error)[:200]}"
        row["seconds"] = round(time.perf_counter() - began, 3)
        row["worker"], row["finished"] = self._name, int(time.time() * 1000)
        return row

    def _restore(self, name: str) -> dict[str, Any]:
        settings = self._settings
        output = output_name(name, settings.format)
        if output != name and self._source.exists(output):
            raise ImageError(
                f"{name}: its result would have the name of another photo's, {output}; rename one"
            )
        content = self._source.read(name, settings.max_bytes)
        photo = read_photo(content, settings.max_pixels, name)
        promised = format_of(PurePosixPath(name))
        if promised != photo.format:
            raise ImageError(f"{name}: mislabelled, this is a {photo.format} image")
        restored = self._deblurrer.restore_photo(photo, settings.strength)
        written = parse_format(settings.format) if settings.format else None
        self._destination.write(output, encode_photo(restored, written, settings.quality))
        size = {"width": photo.width, "height": photo.height}
        return {"output": output, "status": "ok", **size}
