"""Hidden channels that have fallen silent begin anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unblur.models.hidden_channels import look, residual_blocks

_LARGEST_SPREAD = 1.0  # of what new channels see; some old ones have ten times as much


def revive_silent_channels(network: nn.Module, images: Sequence[Tensor]) -> tuple[int, int]:
    """(how many hidden channels of its residual blocks are silent on all images, of how many).

    They get new filters, shifted so that half of what these see passes the ReLU, and nothing reads
    from them yet: the network restores these images exactly as before. images: 1×3×H×W as it is
    trained on. Raises ConfigError for a network without such blocks.
    """
    blocks = residual_blocks(network, "network.revive")
    seen = look(network, blocks, images)
    silent = [
        # Frozen ones could not learn what to do with them.
        (each.largest <= 0) & block.conv1.weight.requires_grad
        for block, each in zip(blocks, seen, strict=True)
    ]
    with torch.no_grad():
        for block, which in zip(blocks, silent, strict=True):
            first, second = block.conv1.weight, block.conv2.weight
            filters = torch.randn_like(first[which])
            # Without a mean, what all inputs have in common does not move them.
            first[which] = filters - filters.mean(dim=(1, 2, 3), keepdim=True)
            second[:, which] = 0
        for block, which, old, new in zip(
            blocks, silent, seen, look(network, blocks, images), strict=True
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
