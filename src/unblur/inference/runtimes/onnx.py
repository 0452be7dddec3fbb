"""ONNX Runtime: the default, in the base install."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unblur.inference.card import CARD_KEY, ModelCard, ModelError
from unblur.inference.runtimes.base import Array, first_line, run_failure

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def _onnxruntime() -> Any:
    # Restoring a photo is nobody else's business.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def onnx_devices() -> list[str]:
    """The devices that the installed ONNX Runtime can use."""
    available = _onnxruntime().get_available_providers()
    return [device for device, provider in _PROVIDERS.items() if provider in available]


def open_session(
    path: Path, threads: int | None, device: str = "cpu", optimize: bool = True
) -> onnxruntime.InferenceSession:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    # Memory that has been used once is kept, by default: asking for the same pages again for every
    # layer takes an eighth of the time. A plan of it for every size of tile keeps more of it for
    # nothing.
    options.enable_mem_pattern = False
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    provider = _PROVIDERS[device]
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[provider],
            enable_fallback=0,  # which prints on stdout
        )
    except Exception as error:
        raise ModelError(
            f"{path}: cannot be loaded as an ONNX model ({first_line(error)})"
        ) from error
    if provider not in session.get_providers():
        raise ModelError(f"ONNX Runtime cannot use {device} on this machine: use --device cpu")
    return session


def card_of(session: onnxruntime.InferenceSession, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise ModelError(f"{path}: has no unblur card; make the file with `unblur export`")
    try:
        return ModelCard.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: its card is damaged ({error})") from error


def read_card(path: Path) -> ModelCard:
    """The card of a model file, without preparing the model to run."""
    return card_of(open_session(path, threads=1, optimize=False), path)


def feeds(card: ModelCard, batch: Array, statistics: Array | None, weight: float) -> dict[str, Any]:
    """The named inputs of an exported graph that is to restore."""
    inputs: dict[str, Any] = {"blurred": batch}
    if card.survey:
        count, _, height, width = batch.shape
        shape = count, card.cells(height), card.cells(width)
        cells = np.arange(math.prod(shape)).reshape(shape)
        if statistics is None:
            known = np.zeros((1, card.survey), np.float32)
            return inputs | {"surveyed": batch, "known": known, "cells": cells}
        known = statistics.reshape(-1, card.survey)
        least = _least(card)
        before = card.cells(card.min_size) ** 2  # which are seen of that
        return inputs | {"surveyed": least, "known": known, "cells": before + cells}
    if card.statistics:
        if statistics is None:
            statistics, weight = np.zeros((1, card.statistics), np.float32), 0.0
        inputs |= {"statistics": statistics, "weight": np.array(weight, np.float32)}
    return inputs


def survey_feeds(card: ModelCard, batch: Array) -> dict[str, Any]:
    """The named inputs of an exported graph that is to survey, and to restore next to nothing."""
    known, side = np.zeros((1, card.survey), np.float32), card.cells(card.min_size)
    cells = np.zeros((1, side, side), np.int64)
    return {"blurred": _least(card), "surveyed": batch, "known": known, "cells": cells}


def surveyed(card: ModelCard, outputs: list[Array]) -> Array:
    """What a graph saw of each cell. Raises ModelError for one that says nothing of it."""
    if len(outputs) < 2:
        raise ModelError(f"{card.name}: does not say what it sees, as its card has it")
    return outputs[1]


def _least(card: ModelCard) -> Array:
    """The smallest image that is accepted: a graph needs something to work on."""
    return np.zeros((1, card.channels, card.min_size, card.min_size), np.float32)


class OnnxRuntime:
    """A model in ONNX Runtime; its sessions may be called from many threads."""

    name = "onnxruntime"

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        self.device = device
        self._session = open_session(path, threads, device)
        self.card = card_of(self._session, path)

    def run(
        self, batch: Array, statistics: Array | None = None, weight: float = 1.0
    ) -> tuple[Array, Array | None]:
        restored, *own = self._outputs(feeds(self.card, batch, statistics, weight))
        return restored, own[0] if own else None

    def survey(self, batch: Array) -> Array:
        return surveyed(self.card, self._outputs(survey_feeds(self.card, batch)))

    def _outputs(self, inputs: dict[str, Any]) -> list[Array]:
        try:
            return self._session.run(None, inputs)
        except Exception as error:
            raise run_failure(self.card, error) from error
