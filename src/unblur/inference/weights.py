"""A model file as `unblur export` writes it → the network in PyTorch that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from unblur.inference.card import ModelError
from unblur.inference.describe import weights_hash
from unblur.inference.runtimes.onnx import read_card
from unblur.inference.storage import read_weights
from unblur.models.checkpoint import filled_network
from unblur.registry import ConfigError


def load_exported(path: Path) -> tuple[str, dict[str, Any], nn.Module]:
    """(architecture, options, network in evaluation mode) of an `.onnx` file.

    Raises ModelError for files that were not written by `unblur export`, or changed afterwards.
    """
    card = read_card(path)
    try:
        network = filled_network(card.architecture, card.options, read_weights(path))
    except ImportError:
        raise ModelError(
            f"{path}: reading its weights needs: pip install 'unblur[export]'"
        ) from None
    except (ConfigError, RuntimeError, TypeError, ValueError) as error:
        detail = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{path}: its graph does not keep the weights of {card.architecture} as they were "
            f"trained ({detail}); start from a checkpoint"
        ) from error
    if weights_hash(network) != card.weights_sha256:
        raise ModelError(f"{path}: its weights are not those that its card tells of")
    return card.architecture, card.options, network.eval()
