"""A small data set and a tiny recipe that trains on it within seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image


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
