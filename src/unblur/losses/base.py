"""What all losses share, and the names that recipes call them by."""

from __future__ import annotations

from torch import nn

from unblur.registry import Registry


class Loss(nn.Module):
    """`forward`: restored and sharp images, N×3×H×W in one value range → a scalar, to be small.

    unit_range: whether it is defined for images in [0, 1] only; they are converted for it.
    sees_blurred: whether it is given the blurred images, too, as a third argument.
    """

    unit_range = False
    sees_blurred = False


_losses: Registry[Loss] = Registry("loss")
register = _losses.register
list_losses = _losses.names
loss_options = _losses.options
create_loss = _losses.create
