"""Checkpoint files → networks: our own, and the public ones of `nafnet` and `light_unet`.

Nothing is ever unpickled beyond tensors and plain values (`weights_only`).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unblur.files import atomic_path
from unblur.models import registry
from unblur.models.base import RestorationModel
from unblur.models.registry import ConfigError, create_model

_LARGEST_OPTION, _SUM_OF_OPTIONS = 4096, 32768  # channels and numbers of blocks


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line for users."""


def save_checkpoint(
    path: Path,
    architecture: str,
    options: dict[str, Any],
    model: nn.Module,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a network as safetensors whose metadata rebuilds it.

    training: what is known of how it was trained, plain values; see `read_training`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"architecture": architecture, "options": json.dumps(options)}
    if training is not None:
        metadata["training"] = json.dumps(training)
    with atomic_path(path) as temporary:
        try:
            save_file(weights, temporary, metadata=metadata)
        except SafetensorError as error:  # of a full disk, too
            raise OSError(errno.EIO, str(error)) from error


def load_checkpoint(path: Path) -> tuple[str, dict[str, Any], nn.Module]:
    """(architecture, options, network in evaluation mode) of a checkpoint file.

    Reads our safetensors and `.pt` (keys `architecture`, `options`, `state_dict`), and the public
    layouts of nafnet (`params`) and light_unet (`model_state_dict`), whose architecture is told by
    their parameter names. Raises CheckpointError.
    """
    content = _read(path)
    architecture, options = content.get("architecture"), content.get("options", {})
    prefix = content.get("weights_prefix", "")
    for key in ("state_dict", "params", "model_state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(prefix, str) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{path}: its weights have no names")
    if prefix:  # a checkpoint of a training, which holds more than the network
        content = {k[len(prefix) :]: v for k, v in content.items() if k.startswith(prefix)}
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{path}: holds no weights")
    try:
        if architecture is None:
            architecture, options = _recognize(path, weights)
        model = filled_network(architecture, options, weights)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        detail = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path}: does not fit {architecture or 'what its names tell'} "
            f"({' '.join(detail[:2])[:200]})"
        ) from error
    return architecture, options, model.eval()


def filled_network(
    architecture: str, options: dict[str, Any], weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network that a file says its weights belong to, with them.

    Files are not trusted: nothing is built that is much larger than the weights. Raises
    ConfigError, RuntimeError, TypeError or ValueError when they do not fit.
    """
    numbers = [abs(n) for n in _numbers(options)]
    # What is no number is not less than any.
    if not all(n <= _LARGEST_OPTION for n in numbers) or sum(numbers) > _SUM_OF_OPTIONS:
        raise ValueError("its options are implausibly large")
    with torch.device("meta"):  # costs no memory
        planned = create_model(architecture, **options)
    given = _numbers_held(weights)
    if sum(parameter.numel() for parameter in planned.parameters()) > given:
        raise ValueError(f"its options tell of more than the {given:,} weights that it holds")
    model = create_model(architecture, **options)
    # What a network makes of its options alone, graphs hold under names like those of weights.
    made = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    model.load_state_dict({name: value for name, value in weights.items() if name not in made})
    return model


def _numbers_held(weights: Mapping[str, Tensor]) -> int:
    """Numbers in memory, counted once: a tensor can repeat a single one as often as it likes."""
    storages = {}
    for weight in weights.values():
        storage = weight.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes() // weight.element_size()
    return sum(storages.values())


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, int | float):
            yield each
        elif isinstance(each, Mapping | list | tuple):
            yield from _numbers(each)


def read_training(path: Path) -> dict[str, Any]:
    """What a checkpoint of ours says of its training; empty when it says nothing.

    `trained_on`, where it is given, is a list of names. Raises CheckpointError for files that
    cannot be read.
    """
    from safetensors import safe_open

    kind, told = path.suffix.lower(), {}
    if kind == ".ckpt":  # of a run, which holds more than this
        told = {"trained_on": _read(path).get("trained_on")}
    try:
        if kind == ".safetensors":
            with safe_open(path, framework="pt") as file:
                told = dict(json.loads((file.metadata() or {}).get("training", "{}")))
        names = told.get("trained_on") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("what it was trained on is no list of names")
        return told
    except Exception as error:  # damaged files fail in many ways
        raise CheckpointError(f"{path}: cannot be read safely ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if "architecture" not in metadata:
                return weights
            options = json.loads(metadata.get("options", "{}"))
            return {
                "architecture": metadata["architecture"],
                "options": options,
                "state_dict": weights,
            }
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # damaged files fail in many ways; unsafe ones are refused here
        detail = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path}: cannot be read safely ({detail[0][:160]})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is not a checkpoint, it holds a {type(content).__name__}")
    return content


def _recognize(path: Path, weights: dict[str, Tensor]) -> tuple[str, dict[str, Any]]:
    for name, architecture in registry.architectures():
        if issubclass(architecture, RestorationModel):
            options = architecture.options_from(weights)
            if options is not None:
                return name, options
    raise CheckpointError(
        f"{path}: does not say which network it belongs to, and its parameter names "
        f"(such as {next(iter(weights))}) are not those of a known public one"
    )
