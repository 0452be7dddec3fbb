"""How a model file stores its weights: as they are, or smaller, for runtimes to convert at loading.

Arithmetic is in float32 in any case. In int8, each output channel of a convolution has a scale of
its own: the largest weight is 127.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

STORED = ("float32", "float16", "int8")

_SMALLEST = 256  # values; what has fewer stays in float32
_PREFIX = "network."  # begins the names of weights in a graph; constants of the exporter have none
_HALF, _INTEGERS, _SCALES = ".half", ".int8", ".scale"

Floats = NDArray[np.float32]


def rounded(network: nn.Module, stored: str) -> nn.Module:
    """A copy of a network with the weights that its file will have."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for weights in network.parameters():
            if stored == "float16":
                weights.copy_(weights.half().float())
            elif stored == "int8" and weights.numel() > _SMALLEST:
                integers, scales = _quantized(weights.detach().numpy())
                weights.copy_(torch.from_numpy(integers * scales))
    return network


def store_smaller(path: Path, network: nn.Module, stored: str) -> None:
    """Store the large tensors of a graph made of a `rounded` network in fewer bytes.

    network: as it was before rounding. Tensors that the exporter changed stay as they are.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    original = {_PREFIX + name: one.detach().numpy() for name, one in network.named_parameters()}
    conversions: list[Any] = []
    scales_of: list[Any] = []
    for tensor in graph.initializer:
        name, weights = tensor.name, onnx.numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size <= _SMALLEST:
            continue
        if stored == "float16":
            half = weights.astype(np.float16)
            if np.array_equal(half, weights):
                tensor.CopyFrom(onnx.numpy_helper.from_array(half, name + _HALF))
                conversions.append(_cast(tensor.name, name))
        elif name in original and original[name].shape == weights.shape:
            integers, scales = _quantized(original[name])
            if np.array_equal(integers * scales, weights):
                tensor.CopyFrom(onnx.numpy_helper.from_array(integers, name + _INTEGERS))
                scales_of.append(onnx.numpy_helper.from_array(scales, name + _SCALES))
                conversions.append(_cast(tensor.name, f"{name}.whole"))
                factors = [f"{name}.whole", name + _SCALES]
                conversions.append(onnx.helper.make_node("Mul", factors, [name]))
    graph.initializer.extend(scales_of)
    nodes = [*conversions, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a model file, by name, in float32. Raises ValueError."""
    import onnx

    tensors = {
        tensor.name.removeprefix(_PREFIX): onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
        if tensor.name.startswith(_PREFIX)
    }
    weights = {}
    for name, array in tensors.items():
        if name.endswith(_INTEGERS):
            whole = name.removesuffix(_INTEGERS)
            scales = tensors.get(whole + _SCALES, np.ones(()))
            if np.broadcast_shapes(array.shape, scales.shape) != array.shape:
                raise ValueError(f"the scales of {whole} have another shape")
            weights[whole] = torch.from_numpy(array * scales).float()
        elif not name.endswith(_SCALES):
            weights[name.removesuffix(_HALF)] = torch.from_numpy(array.copy()).float()
    return weights


def _quantized(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Integers, and the scale of each first index, which multiply to nearly the weights."""
    axes = tuple(range(1, weights.ndim))
    largest = np.abs(weights).max(axis=axes, keepdims=True)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def _cast(source: str, target: str) -> Any:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], to=onnx.TensorProto.FLOAT)
