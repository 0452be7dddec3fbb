"""Hidden channels of residual blocks that pass nothing on, and networks without them.

A ReLU that is negative on everything passes on nothing, and no gradient either: its channel never
learns again, and its arithmetic is wasted (G. Sokar et al., "The dormant neuron phenomenon in deep
reinforcement learning", ICML 2023). `optimizer.full_rate_inputs` keeps channels from falling
silent, `network.revive` has silent ones begin anew, `unblur export --prune` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.models.plain import PlainResBlock
from unblur.models.registry import ConfigError, create_model
from unblur.models.unshuffle_unet import UnshuffleUNet
from unblur.padding import padded_length

_TOGETHER = 16  # channels that runtimes compute at once with AVX-512: fewer take as long


@dataclass(frozen=True)
class Seen:
    """Of each channel before its ReLU, over all images: maximum, mean and standard deviation."""

    largest: Tensor
    mean: Tensor
    spread: Tensor


def residual_blocks(network: nn.Module, option: str) -> list[PlainResBlock]:
    """Those whose channels can fall silent.

    Raises ConfigError, in the name of an option, for a network without.
    """
    blocks = [module for module in network.modules() if isinstance(module, PlainResBlock)]
    if not blocks:
        raise ConfigError(
            f"{option} is for networks of plain residual blocks, such as unshuffle_unet; "
            "leave it out"
        )
    return blocks


def look(
    network: nn.Module, blocks: Sequence[PlainResBlock], images: Iterable[Tensor]
) -> list[Seen]:
    """What reaches the ReLU of each block. images: 1×3×H×W as the network is trained on."""
    values: list[list[Tensor]] = [[] for _ in blocks]

    def note(kept: list[Tensor], features: Tensor) -> None:
        largest, mean = features.amax((0, 2, 3)), features.mean((0, 2, 3))
        kept.append(torch.stack([largest, mean, features.pow(2).mean((0, 2, 3))]))

    hooks = [
        block.conv1.register_forward_hook(lambda _, __, made, kept=kept: note(kept, made))
        for block, kept in zip(blocks, values, strict=True)
    ]
    training = network.training
    network.eval()
    with torch.no_grad():
        for image in images:
            network(image)
    network.train(training)
    for hook in hooks:
        hook.remove()
    seen = []
    for kept in values:
        largest, mean, square = torch.stack(kept).unbind(1)
        mean = mean.mean(0)
        spread = (square.mean(0) - mean**2).clamp(min=0).sqrt()
        seen.append(Seen(largest.amax(0), mean, spread))
    return seen


def without_silent_channels(
    network: nn.Module, options: dict[str, Any], photos: Iterable[NDArray[np.float32]]
) -> tuple[dict[str, Any], UnshuffleUNet]:
    """(options, network) of an `unshuffle_unet` without the channels silent on all photos.

    It restores these as before. In each block a multiple of 16 channels is left, or all: of the
    silent ones those that came nearest to passing something on make up for what is missing.
    photos: blurred ones, 3×H×W in [0, 1]. Raises ConfigError for other networks.
    """
    blocks = residual_blocks(network, "--prune")
    if not isinstance(network, UnshuffleUNet):
        raise ConfigError("--prune is for unshuffle_unet, whose blocks have widths of their own")
    kept = []
    images = (torch.from_numpy(photo)[None] for photo in photos)
    for seen in look(network, blocks, images):
        awake = int((seen.largest > 0).sum())
        count = min(len(seen.largest), padded_length(awake, _TOGETHER))
        kept.append(seen.largest.topk(count).indices.sort().values)
    options = {**options, "hidden": [len(channels) for channels in kept]}
    pruned = create_model("unshuffle_unet", **options)
    assert isinstance(pruned, UnshuffleUNet)  # noqa: S101
    names = {block: name for name, block in network.named_modules()}
    weights = network.state_dict()
    for block, channels in zip(blocks, kept, strict=True):
        first, second = f"{names[block]}.conv1", f"{names[block]}.conv2"
        for name in (f"{first}.weight", f"{first}.bias"):
            weights[name] = weights[name][channels]
        weights[f"{second}.weight"] = weights[f"{second}.weight"][:, channels]
    pruned.load_state_dict(weights)
    return options, pruned.train(network.training)
