"""Random numbers that depend on what they are for, not on when or where they are drawn."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*keys: int | str) -> np.random.Generator:
    """A generator for these keys, such as (seed, epoch, index): the same on every machine."""
    plain = (key if isinstance(key, str) else int(key) for key in keys)
    text = "\0".join(f"{type(key).__name__}:{key}" for key in plain)
    content = text.encode("utf-8", "surrogateescape")  # names of files need not be text
    return np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest()[:16]))
