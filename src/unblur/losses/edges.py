"""Losses on edges."""

from __future__ import annotations

import torch
from kornia.filters import spatial_gradient
from torch import Tensor
from torch.nn import functional as F

from unblur.losses.base import Loss, register


@register("sobel")
class SobelLoss(Loss):
    """Mean absolute difference of the horizontal and vertical Sobel derivatives.

    The kernel's weights are ±1 and ±2, not normalised, as in the published system.
    """

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        with torch.autocast(restored.device.type, enabled=False):
            first, second = (
                spatial_gradient(image.float(), mode="sobel", normalized=False)
                for image in (restored, sharp)
            )
            return F.l1_loss(first, second)
