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
    tile: side of a square of as many pixels as keep memory moderate in a tile.
    statistics: number of global feature averages (0: the network is local, see docs/models.md).
    survey: how many numbers it notes of each cell before it restores (0: it surveys nothing).
    cell: side of these in pixels, a multiple of size_multiple (0: it has none).
    draft: whether its input has three more channels, a draft: what it made of the photo at half its
        size, of at least so many pixels on the shorter side, where there is one (0: it takes none).
    dtype: of the stored weights; runtimes convert them as they load.
    arithmetic: what convolutions are computed in: float32 or, most of them, int8.
    bf16: whether what computes in bf16 may do so with it; where not, it computes in float32.
    weights_sha256: hash of the weights, by name, in float32.
    trained_on: the sequences of its training data, where they are known.
    measured: dB by data set, `{"set": {"psnr_input": …, "psnr": …}}`.
    limits: what it cannot do, in plain words.
    macs_per_megapixel: multiply-accumulates of its convolutions for a megapixel of photo.
    seconds_per_megapixel: measured, `{"onnxruntime, 2 cores of …": 0.4}`.
    """

    name: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    version: str = "1"
    description: str = ""
    licence: str = "unknown"
    training_data: str = "unknown"
    limits: str = ""
    parameters: int = 0
    macs_per_megapixel: int = 0
    size_multiple: int = 1
    min_size: int = 1
    overlap: int = 0
    tile: int = 512
    statistics: int = 0
    survey: int = 0
    cell: int = 0
    draft: int = 0
    dtype: str = "float32"
    arithmetic: str = "float32"
    bf16: bool = True
    weights_sha256: str = ""
    trained_on: list[str] | None = None
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds_per_megapixel: dict[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Of its input."""
        return 6 if self.draft else 3

    @property
    def grid(self) -> int:
        """Where tiles of larger photos start and end: so each has the cells of the whole photo."""
        return self.cell or self.size_multiple

    def cells(self, length: int) -> int:
        """Along that many pixels, the last one of what is left."""
        return -(-length // self.cell)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Parse a card; fields of later versions are ignored, wrong ones are an error."""
        values = json.loads(text, parse_constant=_refuse)
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        if values.get("survey"):  # cells were as large as what sizes are multiples of, once
            values.setdefault("cell", values.get("size_multiple", 1))
        known = {f.name: f for f in dataclasses.fields(cls)}
        card = cls(**{key: value for key, value in values.items() if key in known})
        for name, default in ((f.name, f.default) for f in known.values()):
            value = getattr(card, name)
            if isinstance(default, bool):
                if not isinstance(value, bool):
                    raise ValueError(f"{name} is {value!r}")
            elif isinstance(default, int) and not _is_count(value):
                raise ValueError(f"{name} is {value!r}")
            if isinstance(default, str) and not isinstance(value, str):
                raise ValueError(f"{name} is {value!r}")
        if not isinstance(card.options, dict) or not all(isinstance(k, str) for k in card.options):
            raise ValueError("options are no mapping")
        if not (isinstance(card.name, str) and isinstance(card.architecture, str)):
            raise ValueError("its name is no text")
        names = card.trained_on or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("trained_on holds something other than names")
        if min(card.size_multiple, card.min_size, card.tile) < 1:
            raise ValueError("a size is zero")
        if max(card.size_multiple, card.min_size, card.overlap, card.cell) > 4096:
            raise ValueError("sizes are implausibly large")
        if bool(card.cell) != bool(card.survey) or card.cell % card.size_multiple:
            raise ValueError("what it surveys has no cells of a size that its graph accepts")
        if card.draft == 1:
            raise ValueError("drafts of one pixel have no end")
        if max(card.statistics, card.survey) > 2**20:
            raise ValueError("it tells of implausibly many numbers of a photo")
        for values in card.measured.values():
            if not all(isinstance(values[key], int | float) for key in ("psnr_input", "psnr")):
                raise ValueError("measured holds something other than dB")
        if not all(isinstance(v, int | float) for v in card.seconds_per_megapixel.values()):
            raise ValueError("seconds_per_megapixel holds something other than seconds")
        return card


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")
