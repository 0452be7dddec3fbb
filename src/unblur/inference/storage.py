"""How a model file stores its weights: as they are, or smaller, for runtimes to convert at loading.

Runtimes compute in float32 all the same, unless `quantization` went before. In int8, each slice
along the first axis of a convolution's weights has a scale of its own, its largest magnitude is
127.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unblur.inference.card import ModelError

STORED = ("float32", "float16", "int8")

_SMALLEST = 256  # values; what has fewer stays in float32
PREFIX = "network."  # begins the names of weights in a graph; constants of the exporter have none
# Follow them: weights in half precision; integers, of biases in int32, and what belongs to them.
HALF, INT8, INT32 = ".half", ".int8", ".int32"
SCALES, ZERO = "_scale", "_zero"

Floats = NDArray[np.float32]


def rounded(network: nn.Module, stored: str) -> nn.Module:
    """A copy of a network with the weights that its file will have."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for weights in network.parameters():
            if stored == "float16":
                weights.copy_(weights.half().float())
            elif stored == "int8" and _has_scales(weights):
                integers, scales = _quantized(_array(weights))
                weights.copy_(torch.from_numpy(integers * scales))
    return network


def store_smaller(path: Path, network: nn.Module, stored: str, all_of_them: bool = True) -> None:
    """Store the large tensors of a graph made of a `rounded` network in fewer bytes.

    network: as it was before rounding. What is in integers already stays. Where weights were
    rounded to int8, but the graph holds them otherwise (BatchNorm is folded into them) and cannot
    store them so, raises ModelError if they are wanted `all_of_them`.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    wanted = {
        PREFIX + name: _array(weights)
        for name, weights in network.named_parameters()
        if stored == "int8" and _has_scales(weights)
    }
    for tensor in graph.initializer:
        wanted.pop(tensor.name.removesuffix(INT8) if tensor.name.endswith(INT8) else "", None)
    conversions: list[Any] = []
    scales_of: list[Any] = []
    for tensor in graph.initializer:
        name, weights = tensor.name, onnx.numpy_helper.to_array(tensor)
        if stored == "float16" and weights.dtype == np.float32 and weights.size > _SMALLEST:
            with np.errstate(over="ignore"):  # to infinity, which is not equal: those stay
                half = weights.astype(np.float16)
            if np.array_equal(half, weights):
                tensor.CopyFrom(onnx.numpy_helper.from_array(half, name + HALF))
                conversions.append(_cast(tensor.name, name))
        elif name in wanted:
            integers, scales = _quantized(wanted[name])
            if np.array_equal(integers * scales, weights):
                del wanted[name]
                tensor.CopyFrom(onnx.numpy_helper.from_array(integers, name + INT8))
                scales_of.append(onnx.numpy_helper.from_array(scales, name + INT8 + SCALES))
                conversions.append(_cast(tensor.name, f"{name}.whole"))
                factors = [f"{name}.whole", name + INT8 + SCALES]
                conversions.append(onnx.helper.make_node("Mul", factors, [name]))
    if wanted and all_of_them:
        raise ModelError(
            f"{len(wanted)} tensors, such as {min(wanted)}, are not in the graph as they were "
            "trained and cannot be stored in int8; float16 can"
        )
    graph.initializer.extend(scales_of)
    nodes = [*conversions, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a model file, by name, in float32. Raises ValueError."""
    import onnx

    tensors = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{tensor.name} is in another file")
        if tensor.name.startswith(PREFIX):
            name = tensor.name.removeprefix(PREFIX)
            tensors[name] = onnx.numpy_helper.to_array(tensor)
    weights = {}
    for name, array in tensors.items():
        if name.endswith((INT8, INT32)):
            whole = name.removesuffix(INT8).removesuffix(INT32)
            scales = tensors.get(name + SCALES)
            if scales is None or scales.size != len(array):
                raise ValueError(f"the scales of {whole} have another shape")
            scales = scales.reshape(-1, *[1] * (array.ndim - 1))
            weights[whole] = torch.from_numpy(array * scales).float()
        elif not name.endswith((SCALES, ZERO)):
            weights[name.removesuffix(HALF)] = torch.from_numpy(array.copy()).float()
    return weights


def _has_scales(weights: torch.Tensor) -> bool:
    """Gains and biases, a value for each channel, stay in float32."""
    return weights.ndim == 4 and len(weights) > 1 and weights.numel() > _SMALLEST


def _array(weights: torch.Tensor) -> Floats:
    return weights.detach().float().cpu().numpy()


def _quantized(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Integers, and the scales of slices along the first axis, which multiply to the weights."""
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    if not np.isfinite(largest).all():
        raise ModelError("its weights are not finite")
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def _cast(source: str, target: str) -> Any:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], to=onnx.TensorProto.FLOAT)
