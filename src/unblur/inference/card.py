"""The card of a model: what a model file says about itself."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

CARD_KEY = "unblur_card"


class ModelError(Exception):
    """A model that does not exist, cannot be loaded, or is not one of ours; one line for users."""


@dataclass(frozen=True)
class ModelCard:
    """Everything a user or the engine needs to know of a model; stored in its file's metadata.

    size_multiple, min_size: sizes its graph accepts, in pixels.
    overlap: context in pixels that a tile's pixel needs to come out as in the whole photo.
    tile: side of the tiles that keep memory moderate.
    statistics: number of global feature averages (0: the network is local, see docs/models.md).
    weights_sha256: hash of the weights, by name, in float32.
    measured: dB by data set, `{"set": {"psnr_input": …, "psnr": …}}`.
    seconds_per_megapixel: measured, `{"onnxruntime, 2 cores of …": 0.4}`.
    """

    name: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    version: str = "1"
    description: str = ""
    licence: str = "unknown"
    training_data: str = "unknown"
    parameters: int = 0
    size_multiple: int = 1
    min_size: int = 1
    overlap: int = 0
    tile: int = 512
    statistics: int = 0
    dtype: str = "float32"
    weights_sha256: str = ""
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds_per_megapixel: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Parse a card; fields of later versions are ignored, wrong ones are an error."""
        values = json.loads(text)
        known = {f.name: f for f in dataclasses.fields(cls)}
        card = cls(**{key: value for key, value in values.items() if key in known})
        for name in ("size_multiple", "min_size", "overlap", "tile", "statistics"):
            value = getattr(card, name)
            if not isinstance(value, int) or value < (name not in ("overlap", "statistics")):
                raise ValueError(f"{name} is {value!r}")
        if max(card.size_multiple, card.min_size, card.overlap) > 4096:
            raise ValueError("sizes are implausibly large")
        return card
