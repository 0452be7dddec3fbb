"""Losses on spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from unblur.losses.base import Loss, register


@register("fourier")
class FourierLoss(Loss):
    """Mean absolute difference of the two-dimensional Fourier transforms.

    The transform is orthonormal, so the loss does not grow with the size of the crop.
    """

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        # Half precision has no complex counterpart.
        with torch.autocast(restored.device.type, enabled=False):
            difference = restored.float() - sharp.float()
            return torch.fft.rfft2(difference, norm="ortho").abs().mean()
