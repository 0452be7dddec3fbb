"""Convolutions in int8 instead of float32: plain networks are 1.2 to 1.5 times as fast on CPUs.

Activations become unsigned 8-bit integers of fixed ranges, taken from photos: what lies beyond is
clipped, and a pixel does not depend on the tile that it is in. Weights have 7 bits, with a scale
for each output channel: with 8, processors without VNNI clip sums that others do not, and the
same photo would come out otherwise on them.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.inference.card import ModelCard, ModelError
from unblur.inference.runtimes.onnx import feeds
from unblur.inference.storage import INT8, INT32, PREFIX, SCALES, ZERO
from unblur.models.base import RestorationModel

# Of the values of an activation: the rarest, which would make the steps of all others coarse, are
# clipped. On blurred photos results came twice as near to float32 as with the whole range.
_PERCENTILE = 99.999


def compute_in_int8(
    path: Path, card: ModelCard, network: RestorationModel, photos: Sequence[NDArray[np.float32]]
) -> None:
    """Rewrite an exported float32 graph so that runtimes compute its convolutions in int8.

    photos: such as the model is to restore, 3×H×W in [0, 1], for the ranges. The first and the
    last convolution and the network's `float_sections` stay in float32, as do all operations but
    convolutions. Raises ModelError where nothing is left.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(photos)

        def __len__(self) -> int:
            return len(photos)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(photos[start_index:end_index])

        def get_next(self) -> dict[str, Any] | None:
            photo = next(self._left, None)
            if photo is None:
                return None
            batch = torch.from_numpy(np.ascontiguousarray(photo[None]))
            with torch.no_grad():
                padded = network.padded(network.with_draft(batch))
            return feeds(card, padded.numpy(), None, 1.0)

    given = onnx.load(path)
    convolutions = [node for node in given.graph.node if node.op_type == "Conv"]
    exact = tuple(f"{PREFIX}{section}." for section in network.float_sections)
    inner = [node.name for node in convolutions[1:-1] if not node.input[1].startswith(exact)]
    if not inner:  # the library would take an empty list for all of them
        raise ModelError(f"{card.name}: has no convolutions between its first and last for int8")
    with _without_remarks():
        quantize_static(
            path,
            path,
            Photos(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=inner,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # One photo after another: all activations of all of them would take gigabytes.
            extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": 1},
        )
    model = onnx.load(path)
    _name_as_stored(model.graph)
    model.producer_name = "unblur"
    del model.metadata_props[:]
    model.metadata_props.extend(given.metadata_props)
    onnx.save(model, path)


def _name_as_stored(graph: Any) -> None:
    """Call integers and scales of weights as `storage` does, which reads them."""
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        name, found, _ = tensor.name.partition("_quantized")
        if tensor.name.startswith(PREFIX) and found:
            own = name + (INT32 if name.endswith(".bias") else INT8)
            names |= {
                f"{name}_quantized": own,
                f"{name}_scale": own + SCALES,  # of weights
                f"{name}_quantized_scale": own + SCALES,  # of biases
                f"{name}_zero_point": own + ZERO,
                f"{name}_quantized_zero_point": own + ZERO,
            }
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """The library prints what it does on stdout, and warns of steps that were taken otherwise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
