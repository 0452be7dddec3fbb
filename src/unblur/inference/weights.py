"""A model file as `unblur export` writes it → the network in PyTorch that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from unblur.inference.card import ModelError
from unblur.inference.describe import weights_hash
from unblur.inference.runtimes.onnx import read_card
from unblur.models.checkpoint import filled_network
from unblur.registry import ConfigError

HALF = ".half"  # ends the names of tensors that are stored in float16


def load_exported(path: Path) -> tuple[str, dict[str, Any], nn.Module]:
    """(architecture, options, network in evaluation mode) of an `.onnx` file.

    Raises ModelError for files that were not written by `unblur export`, or changed afterwards.
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(
            f"{path}: reading its weights needs: pip install 'unblur[export]'"
        ) from None
    card = read_card(path)
    weights = {
        name: torch.from_numpy(array.copy()).float()
        for tensor in onnx.load(path).graph.initializer
        for name in [tensor.name.removeprefix("network.").removesuffix(HALF)]
        if name != tensor.name  # constants that the exporter made are called otherwise
        for array in [onnx.numpy_helper.to_array(tensor)]
    }
    try:
        network = filled_network(card.architecture, card.options, weights)
    except (ConfigError, RuntimeError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{path}: its graph does not keep the weights of {card.architecture} as they were "
            f"trained ({detail}); start from a checkpoint"
        ) from error
    if weights_hash(network) != card.weights_sha256:
        raise ModelError(f"{path}: its weights are not those that its card tells of")
    return card.architecture, card.options, network.eval()
