"""A checkpoint, or a model file as `unblur export` writes it → its network in PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unblur.inference.card import ModelError
from unblur.inference.describe import weights_hash
from unblur.inference.runtimes.onnx import read_card
from unblur.inference.storage import read_weights
from unblur.models import model_options
from unblur.models.checkpoint import filled_network, load_checkpoint, read_training
from unblur.registry import ConfigError


def load_network(path: Path) -> tuple[str, dict[str, Any], nn.Module]:
    """(architecture, options, network) of a checkpoint or an `.onnx` file.

    Raises CheckpointError or ModelError.
    """
    return load_exported(path) if path.suffix.lower() == ".onnx" else load_checkpoint(path)


def sequences_seen(path: Path) -> list[str] | None:
    """What the weights of a file were trained on; None if that is unknown."""
    if path.suffix.lower() == ".onnx":
        return read_card(path).trained_on
    return read_training(path).get("trained_on")


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


def average(
    architecture: str, options: dict[str, Any], network: nn.Module, others: Sequence[Path]
) -> None:
    """Give a network the mean of its own weights and of those in files of the same network.

    Trained on from a common beginning, they are often better together than each alone (M. Wortsman
    et al., "Model soups", ICML 2022). Raises ModelError for a file of another network, and as
    `load_network` does.
    """
    states = [network.state_dict()]
    own = _settings(architecture, options)
    for path in others:
        other, its_options, loaded = load_network(path)
        if other != architecture or _settings(other, its_options) != own:
            raise ModelError(f"{path}: is another network than the one to be averaged with it")
        states.append(loaded.state_dict())
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    network.load_state_dict(mean)


def _settings(architecture: str, options: dict[str, Any]) -> Any:
    """Options and the defaults of others, lists and tuples alike: files may say either or none."""
    return json.loads(json.dumps(model_options(architecture) | options))
