"""Hidden channels that have fallen silent begin anew.

A ReLU that is negative on everything passes on nothing, and no gradient either: its channel never
learns again, and its arithmetic is wasted (G. Sokar et al., "The dormant neuron phenomenon in deep
reinforcement learning", ICML 2023, start such ones anew as well). `optimizer.full_rate_inputs`
keeps them from falling silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unblur.models.plain import PlainResBlock
from unblur.registry import ConfigError

_LARGEST_SPREAD = 1.0  # of what new channels see; some old ones have ten times as much


@dataclass(frozen=True)
class Seen:
    """Of each channel before its ReLU, over all images: maximum, mean and standard deviation."""

    largest: Tensor
    mean: Tensor
    spread: Tensor


def residual_blocks(network: nn.Module) -> list[PlainResBlock]:
    """Those whose channels can be revived. Raises ConfigError for a network without."""
    blocks = [module for module in network.modules() if isinstance(module, PlainResBlock)]
    if not blocks:
        raise ConfigError(
            "network.revive is for networks of plain residual blocks, such as unshuffle_unet; "
            "leave it out"
        )
    return blocks


def revive_silent_channels(network: nn.Module, images: Sequence[Tensor]) -> tuple[int, int]:
    """(how many hidden channels of its residual blocks are silent on all images, of how many).

    They get new filters, shifted so that half of what these see passes the ReLU, and nothing reads
    from them yet: the network restores these images exactly as before. images: 1×3×H×W as it is
    trained on. Raises ConfigError for a network without such blocks.
    """
    blocks = residual_blocks(network)
    seen = _look(network, blocks, images)
    silent = [each.largest <= 0 for each in seen]
    with torch.no_grad():
        for block, which in zip(blocks, silent, strict=True):
            first, second = block.conv1.weight, block.conv2.weight
            filters = torch.randn_like(first[which])
            # Without a mean, what all inputs have in common does not move them.
            first[which] = filters - filters.mean(dim=(1, 2, 3), keepdim=True)
            second[:, which] = 0
        for block, which, old, new in zip(
            blocks, silent, seen, _look(network, blocks, images), strict=True
        ):
            if which.all() or not which.any():
                spread = torch.tensor(_LARGEST_SPREAD)
            else:
                spread = old.spread[~which].median().clamp(max=_LARGEST_SPREAD)
            factor = spread / new.spread[which].clamp(min=1e-6)
            bias = block.conv1.bias
            assert bias is not None  # noqa: S101
            block.conv1.weight[which] *= factor.view(-1, 1, 1, 1)
            bias[which] = (bias - new.mean)[which] * factor
    return sum(int(which.sum()) for which in silent), sum(len(which) for which in silent)


def _look(
    network: nn.Module, blocks: Sequence[PlainResBlock], images: Sequence[Tensor]
) -> list[Seen]:
    """What reaches the ReLU of each block."""
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
