"""A network in PyTorch → one `.onnx` file with its card, checked against PyTorch first."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unblur.files import atomic_path, make_folder
from unblur.inference.card import CARD_KEY, ModelCard, ModelError
from unblur.inference.describe import describe, synthetic_photo
from unblur.inference.runtimes.onnx import OnnxRuntime
from unblur.inference.storage import STORED, rounded, store_smaller
from unblur.models.base import RestorationModel, pad_to_multiple
from unblur.models.deploy import DeployedModel
from unblur.registry import unknown

# Odd, uneven sizes: none is the one that the graph was traced with.
CHECKED_SIZES = ((67, 131), (129, 65), (33, 200))
TOLERANCE = 1e-3


def export_model(
    network: nn.Module,
    path: Path,
    name: str,
    architecture: str,
    options: dict[str, Any],
    stored: str = "float32",
    **known: Any,
) -> ModelCard:
    """Write a network as ONNX with dynamic batch, height and width, and return its card.

    stored: the type of the weights in the file, of STORED; float16 takes half the space, int8 a
        quarter.
    known: card fields such as `licence`, `training_data`, `description`, `measured`.
    Raises ModelError when the graph does not agree with PyTorch on odd sizes.
    """
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path}: a model file must end in .onnx")
    if stored not in STORED:
        raise unknown("type of stored weights", stored, STORED)
    make_folder(path.parent, ModelError)
    original = network
    if stored != "float32":
        network = rounded(network, stored)
    card = describe(name, architecture, options, network, dtype=stored, **known)
    assert isinstance(network, RestorationModel)  # noqa: S101 (describe refuses others)
    deployed = DeployedModel(network)
    with atomic_path(path) as temporary:
        _write(deployed, card, temporary)
        if stored != "float32":
            store_smaller(temporary, original, stored)
        check(deployed, OnnxRuntime(temporary, "cpu", None))
    return card


def _write(deployed: DeployedModel, card: ModelCard, path: Path) -> None:
    multiple = card.size_multiple
    least = max(2, -(-card.min_size // multiple))
    height = multiple * torch.export.Dim("height", min=least)
    width = multiple * torch.export.Dim("width", min=least)
    side = multiple * max(3, least)
    inputs: tuple[torch.Tensor, ...] = (torch.rand(2, 3, side, side + 2 * multiple),)
    shapes: list[Any] = [{0: torch.export.Dim("batch"), 2: height, 3: width}]
    names = ["blurred"]
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
            output_names=["restored", "own_statistics"][: 2 if card.statistics else 1],
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
    """Raise ModelError unless the graph equals the network on odd sizes, within TOLERANCE."""
    card = runtime.card
    for height, width in CHECKED_SIZES:
        photo = pad_to_multiple(synthetic_photo(height, width), card.size_multiple, card.min_size)
        batch = torch.cat([photo, photo.flip(-1)])
        statistics = torch.full((1, card.statistics), 0.5) if card.statistics else None
        with torch.no_grad():
            arguments = () if statistics is None else (statistics, torch.tensor(0.25))
            expected = deployed(batch, *arguments)[0].numpy()
        given = None if statistics is None else statistics.numpy()
        actual, _ = runtime.run(batch.numpy(), given, 0.25)
        difference = float(np.abs(actual - expected).max()) if actual.shape == expected.shape else 9
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{card.name}: the exported graph differs from PyTorch by {difference:.2g} at "
                f"{height}×{width}; it was not written"
            )
