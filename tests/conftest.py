"""What all tests share: real photos where they are at hand, drawn ones everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unblur.demo import draw_scene
from unblur.inference import Deblurrer

# One drawing serves the whole session; tests must not write to it.
SCENE = draw_scene()
SCENE.flags.writeable = False


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """A drawn 640×960×3 uint8 photo."""
    return SCENE


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images described in docs/data.md."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("UNBLUR_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real images are absent: set UNBLUR_DATA to the folder of docs/data.md")
    return folder


@pytest.fixture(scope="session")
def real_photo(data: Path) -> np.ndarray:
    """A real sharp photo, about 1350×2040."""
    return np.asarray(Image.open(data / "sharp/photos/div2k-0853.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def small() -> Deblurrer:
    """The shipped model in ONNX Runtime."""
    return Deblurrer("small", runtime="onnxruntime")
