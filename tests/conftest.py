"""What all tests share: real photos where they are at hand, drawn ones everywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from unblur.demo import draw_scene
from unblur.inference import Deblurrer

# One drawing serves the whole session; tests must not write to it.
SCENE = draw_scene()
SCENE.flags.writeable = False


def heed_interrupts() -> None:
    """For a process to be started with: tests may run in the background, which ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


@pytest.fixture
def photos(tmp_path: Path, scene: np.ndarray) -> Path:
    """Ten sharp drawn photos, 120×160."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(10):
        row, column = divmod(index, 5)
        part = scene[row * 300 : row * 300 + 120, column * 160 : column * 160 + 160]
        Image.fromarray(part).save(folder / f"p{index}.png")
    return folder


@pytest.fixture
def recipe_file(tmp_path: Path, photos: Path) -> Callable[..., Path]:
    """Writes a recipe: a small U-Net on these photos, 24 steps in 4 epochs, with changes."""

    def write(**changes: object) -> Path:
        values = {
            "network": {"name": "unet16", "options": {"width": 4}},
            "data": {
                "train": f"sharp:{photos}",
                "blur": "gaussian:sigma=1.5",
                "crop": 32,
                "batch_size": 2,
                "epoch_length": 12,
                "workers": 0,
                "val_length": 2,
            },
            "losses": {"l1": 1.0},
            "optimizer": {"name": "adam", "lr": 2e-3},
            "schedule": {"name": "cosine", "final_lr": 1e-5},
            "trainer": {"max_epochs": 4, "log_every": 1, "accelerator": "cpu"},
            "output": str(tmp_path / "experiments"),
            "tensorboard": False,
        }
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(values.get(key), dict) and key != "losses":
                values[key] = {**values[key], **value}  # type: ignore[dict-item]
            else:
                values[key] = value
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
