"""A loss over the outputs of a coarse-to-fine network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unblur.losses.weighted import WeightedLoss


class MultiScaleLoss(nn.Module):
    """The mean of a loss over all scales, halved, as S. Nah et al. (CVPR 2017) define it.

    The sharp and the blurred image are reduced to each output's size by averaging.
    """

    def __init__(self, loss: WeightedLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, restored: Sequence[Tensor], sharp: Tensor, blurred: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and each of its terms as a mean over the scales."""
        totals, terms = [], []
        for output in restored:
            others = (F.interpolate(x, output.shape[-2:], mode="area") for x in (sharp, blurred))
            total, values = self.loss(output, *others)
            totals.append(total)
            terms.append(values)
        means = {name: torch.stack([v[name] for v in terms]).mean() for name in terms[0]}
        return torch.stack(totals).mean() / 2, means
