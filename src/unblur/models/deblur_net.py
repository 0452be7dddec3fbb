"""`deblur_net`: system 3's seven convolutions that overfit one image."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.registry import register


@register("deblur_net")
class DeblurNet(RestorationModel):
    """3×3 convolutions with tanh between them, `sigmoid(f(x) + x)`. 1,331,459 parameters."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 64, 128, 256, 256, 128, 64, 3)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(before, after, 3, padding=1)
                for before, after in itertools.pairwise(channels)
            ]
        )

    def restore(self, x: Tensor) -> Tensor:
        features = x
        for conv in self.convs[:-1]:
            features = torch.tanh(conv(features))
        return torch.sigmoid(self.convs[-1](features) + x)
