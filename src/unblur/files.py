"""Files that appear whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
