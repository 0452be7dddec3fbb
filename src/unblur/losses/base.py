"""What all losses share, and the names that recipes call them by."""

from __future__ import annotations

from torch import Tensor, nn

from unblur.registry import Registry


class Loss(nn.Module):
    """Restored and sharp images, N×3×H×W in one value range → a scalar, smaller is better.

    unit_range: whether it is defined for images in [0, 1] only; they are converted for it.
    """

    unit_range = False

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        raise NotImplementedError


_losses: Registry[Loss] = Registry("loss")
register = _losses.register
list_losses = _losses.names
loss_options = _losses.options
create_loss = _losses.create
