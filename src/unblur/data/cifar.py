"""CIFAR-10's official Python batches, read without running code from the pickle."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from unblur.data.dataset import Pair
from unblur.data.errors import DataError
from unblur.data.sources import ArraySource

_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_LARGEST = 64 * 2**20  # an official batch is 31 MB


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and plain containers; anything else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def is_cifar(root: Path) -> bool:
    return any((root / name).is_file() for name in _BATCHES)


def read_cifar(root: Path) -> tuple[list[Pair], list[str]]:
    """All images of the batches that are there, 32×32; the last is the test set.

    Every image is a sequence of its own. Batches may be shorter than the official 10,000.
    """
    pairs = []
    for batch in _BATCHES:
        path = root / batch
        if not path.is_file():
            continue
        subset = "test" if batch == "test_batch" else "train"
        for index, pixels in enumerate(_images(path)):
            name = f"{batch}/{index:05}"
            pairs.append(Pair(name, name, ArraySource(f"{path}[{index}]", pixels), subset=subset))
    return pairs, []


def _images(path: Path) -> np.ndarray:
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: is larger than any CIFAR-10 batch")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        data = content[b"data"]
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise ValueError(f"its data is {data.dtype} {data.shape}")
    except Exception as error:  # a damaged pickle fails in many ways; a hostile one is refused
        raise DataError(f"{path}: is no CIFAR-10 batch ({error})") from error
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
