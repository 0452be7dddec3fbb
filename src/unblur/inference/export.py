"""A network in PyTorch → one `.onnx` file with its card, checked against PyTorch first."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unblur.files import atomic_path
from unblur.inference.card import CARD_KEY, ModelCard, ModelError
from unblur.inference.describe import describe, synthetic_photo
from unblur.inference.runtimes.onnx import OnnxRuntime
from unblur.inference.weights import HALF
from unblur.models.base import RestorationModel, pad_to_multiple
from unblur.models.deploy import DeployedModel

# Odd, uneven sizes: none is the one that the graph was traced with.
CHECKED_SIZES = ((67, 131), (129, 65), (33, 200))
TOLERANCE = 1e-3


def export_model(
    network: nn.Module,
    path: Path,
    name: str,
    architecture: str,
    options: dict[str, Any],
    half: bool = False,
    **known: Any,
) -> ModelCard:
    """Write a network as ONNX with dynamic batch, height and width, and return its card.

    half: store weights in float16, in half the space; arithmetic stays in float32.
    known: card fields such as `licence`, `training_data`, `description`, `measured`.
    Raises ModelError when the graph does not agree with PyTorch on odd sizes.
    """
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"{path}: a model file must end in .onnx")
    if half:
        network = _rounded_to_half(network)
        known["dtype"] = "float16"
    card = describe(name, architecture, options, network, **known)
    assert isinstance(network, RestorationModel)  # noqa: S101 (describe refuses others)
    deployed = DeployedModel(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        _write(deployed, card, temporary)
        if half:
            _store_in_half(temporary)
        check(deployed, OnnxRuntime(temporary, "cpu", None))
    return card


def _rounded_to_half(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(weights.half().float())
    return network


def _store_in_half(path: Path) -> None:
    """Keep all large tensors of a graph in float16; runtimes convert them back as they load."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    conversions = []
    for tensor in graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size <= 256:
            continue
        rounded = weights.astype(np.float16)
        if np.array_equal(rounded, weights):  # not so constants that the exporter made
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, f"{name}{HALF}"))
            conversions.append(
                onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*conversions, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


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
