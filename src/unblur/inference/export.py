"""A network in PyTorch → one `.onnx` file with its card, checked against PyTorch first."""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unblur.files import atomic_path, make_folder
from unblur.inference.card import CARD_KEY, ModelCard, ModelError
from unblur.inference.describe import describe, synthetic_photo, weights_hash
from unblur.inference.quantization import compute_in_int8
from unblur.inference.runtimes.onnx import OnnxRuntime
from unblur.inference.storage import STORED, read_weights, rounded, store_smaller
from unblur.models.base import RestorationModel, pad_to_multiple
from unblur.models.checkpoint import filled_network
from unblur.models.deploy import DeployedModel
from unblur.registry import unknown

# Odd, uneven sizes beyond the least: none is the one that the graph was traced with.
CHECKED_SIZES = ((67, 131), (129, 65), (33, 200))
# The largest difference from PyTorch. In int8 its root mean square, of that of what the network
# changes, or of white where it changes next to nothing.
TOLERANCE, INT8_SHARE, INT8_LEAST = 1e-3, 0.2, 0.002


def export_model(
    network: nn.Module,
    path: Path,
    name: str,
    architecture: str,
    options: dict[str, Any],
    stored: str = "float32",
    photos: Sequence[NDArray[np.float32]] | None = None,
    **known: Any,
) -> ModelCard:
    """Write a network as ONNX with dynamic batch, height and width, and return its card.

    stored: the type of the weights in the file, of STORED; float16 takes half the space, int8 a
        quarter.
    photos: have convolutions computed in int8, too, in ranges that are taken from these, which
        are such as the model is to restore: 3×H×W in [0, 1]. Weights are stored in int8.
    known: card fields such as `licence`, `training_data`, `description`, `measured`.
    Raises ModelError when the graph does not agree with PyTorch on odd sizes, and when the file
    cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path}: a model file must end in .onnx")
    if stored not in STORED:
        raise unknown("type of stored weights", stored, STORED)
    if photos is not None:
        stored, known["arithmetic"] = "int8", "int8"
    make_folder(path.parent, ModelError)
    original = network
    if stored != "float32":
        network = rounded(network, stored)
    card = describe(name, architecture, options, network, dtype=stored, **known)
    assert isinstance(network, RestorationModel)  # noqa: S101 (describe refuses others)
    deployed = DeployedModel(network)
    try:
        with atomic_path(path) as temporary:
            _write(deployed, card, temporary)
            if photos is not None:
                compute_in_int8(temporary, card, network, photos)
            if stored != "float32":
                store_smaller(temporary, original, stored, all_of_them=photos is None)
            if photos is not None:
                card = _with_hash_of(temporary, card)
            check(deployed, OnnxRuntime(temporary, "cpu", None))
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error
    return card


def _with_hash_of(path: Path, card: ModelCard) -> ModelCard:
    """The card, and in the file, with the hash of the weights that the file holds.

    Where the graph does not keep them as they were trained, nothing reads them from it: the hash
    stays that of the network.
    """
    import onnx

    try:
        network = filled_network(card.architecture, card.options, read_weights(path))
    except (RuntimeError, TypeError, ValueError):
        return card
    card = dataclasses.replace(card, weights_sha256=weights_hash(network))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return card


def _write(deployed: DeployedModel, card: ModelCard, path: Path) -> None:
    multiple = card.size_multiple
    least = max(2, -(-card.min_size // multiple))
    height, width = (torch.export.Dim(name, min=least) for name in ("height", "width"))
    # Of anything there is more than one: what is traced as one stays so.
    side = 2 * card.cell + multiple * max(3, least)
    channels = card.channels
    inputs: tuple[torch.Tensor, ...] = (torch.rand(2, channels, side, side + 2 * multiple),)
    batch = torch.export.Dim("batch")
    shapes: list[Any] = [{0: batch, 2: multiple * height, 3: multiple * width}]
    names = ["blurred"]
    if card.survey:
        surveyed = {
            0: torch.export.Dim("surveyed"),
            2: multiple * torch.export.Dim("surveyed_height", min=least),
            3: multiple * torch.export.Dim("surveyed_width", min=least),
        }
        rows, columns = card.cells(side), card.cells(side + 2 * multiple)
        inputs += (
            torch.rand(3, channels, side + multiple, side),
            torch.rand(4, card.survey),
            torch.zeros((2, rows, columns), dtype=torch.long),
        )
        auto = torch.export.Dim.AUTO
        shapes += [surveyed, {0: torch.export.Dim("known")}, {0: batch, 1: auto, 2: auto}]
        names += ["surveyed", "known", "cells"]
    if card.statistics:
        inputs += (torch.rand(1, card.statistics), torch.tensor(0.0))
        shapes += [None, None]
        names += ["statistics", "weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            deployed,
            inputs,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=names,
            output_names=["restored", "own_statistics"][: len(names)],
            dynamic_shapes=tuple(shapes),
        )
    assert program is not None  # noqa: S101 (dynamo=True always returns one)
    for node in program.model.graph:
        # PyTorch notes the stack of source files behind every node, paths of this machine included.
        node.metadata_props.clear()
    program.model.metadata_props[CARD_KEY] = card.to_json()
    program.model.producer_name = "unblur"
    program.save(str(path))


def check(deployed: DeployedModel, runtime: OnnxRuntime) -> None:
    """Raise ModelError unless the graph equals the network on odd sizes, within the tolerance."""
    card = runtime.card
    exact = card.arithmetic == "float32"
    for height, width in CHECKED_SIZES:
        height, width = height + card.min_size - 1, width + card.min_size - 1
        photo = pad_to_multiple(synthetic_photo(height, width), card.size_multiple, card.min_size)
        photos = torch.cat([photo, photo.flip(-1)])
        batch = torch.cat([photos, photos.flip(1)], 1) if card.draft else photos
        statistics = torch.full((1, card.statistics), 0.5) if card.statistics else None
        with torch.no_grad():
            arguments = () if statistics is None else (statistics, torch.tensor(0.25))
            expected = deployed(batch, *arguments)[0].numpy()
        given = None if statistics is None else statistics.numpy()
        results = [runtime.run(batch.numpy(), given, 0.25)[0]]
        if card.survey:  # and told what it saw before
            results.append(runtime.run(batch.numpy(), runtime.survey(batch.numpy()))[0])
        for actual in results:
            if actual.shape != expected.shape:
                difference, allowed = math.inf, 0.0
            elif exact:
                difference, allowed = float(np.abs(actual - expected).max()), TOLERANCE
            else:
                difference = _root_mean_square(actual - expected)
                allowed = max(INT8_LEAST, INT8_SHARE * _root_mean_square(expected - photos.numpy()))
            if not difference <= allowed:
                raise ModelError(
                    f"{card.name}: the exported graph{'' if exact else ', in int8,'} differs from "
                    f"PyTorch by {difference:.2g} at {height}×{width}; it was not written"
                )


def _root_mean_square(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values).mean()))
