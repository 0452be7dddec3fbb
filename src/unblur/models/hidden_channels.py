"""What the hidden channels of residual blocks do, and networks without those that do little.

A ReLU that is negative on everything passes on nothing, and no gradient either: its channel never
learns again, and its arithmetic is wasted (G. Sokar et al., "The dormant neuron phenomenon in deep
reinforcement learning", ICML 2023). `optimizer.full_rate_inputs` keeps channels from falling
silent, `network.revive` has silent ones begin anew, `unblur export --prune` leaves them out, and
with them the awake ones that add least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.plain import PlainResBlock
from unblur.models.registry import ConfigError, create_model
from unblur.padding import padded_length

_TOGETHER = 16  # channels that runtimes compute at once with AVX-512: fewer take as long


@dataclass(frozen=True)
class Seen:
    """Of each channel, over all images.

    Before its ReLU maximum, mean and standard deviation; after it mean and variance.
    """

    largest: Tensor
    mean: Tensor
    spread: Tensor
    passed_mean: Tensor
    passed_variance: Tensor


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
        passed = features.relu()
        means = [each.mean((0, 2, 3)) for each in (features, features**2, passed, passed**2)]
        kept.append(torch.stack([features.amax((0, 2, 3)), *means]))

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
        together = torch.stack(kept)
        mean, square, passed, passed_square = together[:, 1:].mean(0)
        variance, passed_variance = square - mean**2, passed_square - passed**2
        seen.append(
            Seen(
                largest=together[:, 0].amax(0),
                mean=mean,
                spread=variance.clamp(min=0).sqrt(),
                passed_mean=passed,
                passed_variance=passed_variance.clamp(min=0),
            )
        )
    return seen


def variance_added(block: PlainResBlock, seen: Seen) -> Tensor:
    """Of what each channel adds to the features, over all images."""
    return seen.passed_variance * block.conv2.weight.detach().pow(2).sum((0, 2, 3))


def leave_out(weights: dict[str, Tensor], block: str, seen: Seen, gone: Sequence[int]) -> None:
    """Take hidden channels out of the weights of a block; what they add on average stays."""
    first, second = f"{block}.conv1", f"{block}.conv2"
    reading = weights[f"{second}.weight"]
    kept = [channel for channel in range(reading.shape[1]) if channel not in gone]
    constant = reading[:, gone].sum((2, 3)) @ seen.passed_mean[gone]
    weights[f"{second}.bias"] = weights[f"{second}.bias"] + constant
    weights[f"{second}.weight"] = reading[:, kept]
    for name in (f"{first}.weight", f"{first}.bias"):
        weights[name] = weights[name][kept]


def without_idle_channels(
    network: nn.Module,
    architecture: str,
    options: dict[str, Any],
    photos: Iterable[NDArray[np.float32]],
    share: float,
) -> tuple[dict[str, Any], nn.Module]:
    """(options, network) of an architecture without the hidden channels that do little.

    In each block those go that add least: together less than `share` of the variance over all
    photos of what its channels add, and the silent ones. What they add on average stays, in the
    bias (P. Molchanov et al., "Pruning convolutional neural networks for resource efficient
    inference", ICLR 2017, compares such measures). A multiple of 16 channels is left, or all.
    photos: blurred ones of one size, 3×H×W in [0, 1]. Raises ConfigError for networks whose
    options do not say how many hidden channels each block has.
    """
    blocks = residual_blocks(network, "--prune")
    sections = network.hidden_options if isinstance(network, RestorationModel) else {}
    if not sections:
        raise ConfigError(
            "--prune is for unshuffle_unet and wiener_unet, whose blocks have widths of their own"
        )
    names = {block: name for name, block in network.named_modules()}
    weights = network.state_dict()
    hidden: dict[str, list[int]] = {option: [] for option in sections}
    images = (torch.from_numpy(photo)[None] for photo in photos)
    for block, seen in zip(blocks, look(network, blocks, images), strict=True):
        added = variance_added(block, seen)
        # Of the silent ones those that came nearest to passing something on make up for what is
        # missing in a multiple of 16.
        order = sorted(range(len(added)), key=lambda c: (float(added[c]), float(seen.largest[c])))
        idle = int((added[order].cumsum(0) <= share * added.sum()).sum())
        count = min(len(order), padded_length(max(1, len(order) - idle), _TOGETHER))
        leave_out(weights, names[block], seen, order[: len(order) - count])
        option = next(o for o, section in sections.items() if names[block].startswith(section))
        hidden[option].append(count)
    options = {**options, **hidden}
    pruned = create_model(architecture, **options)
    pruned.load_state_dict(weights)
    return options, pruned.train(network.training)
