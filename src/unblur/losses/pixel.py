"""Losses that compare pixel by pixel; each is a mean over all values."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unblur.losses.base import Loss, register
from unblur.registry import ConfigError


@register("l1")
class L1Loss(Loss):
    """Mean absolute error."""

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        return F.l1_loss(restored, sharp)


@register("mse")
class MSELoss(Loss):
    """Mean squared error."""

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        return F.mse_loss(restored, sharp)


@register("charbonnier")
class CharbonnierLoss(Loss):
    """sqrt(d² + ε²): like L1, but smooth at zero.

    After P. Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
    computed imaging", ICIP 1994.
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if epsilon <= 0:
            raise ConfigError(f"charbonnier's epsilon must be positive, got {epsilon:g}")
        self.epsilon = epsilon

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        return ((restored - sharp).square() + self.epsilon**2).sqrt().mean()


@register("logcosh")
class LogCoshLoss(Loss):
    """log(cosh(d)): d²/2 for small differences, |d| − log 2 for large ones."""

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        difference = restored - sharp
        # The same, without the overflow of cosh.
        return (difference + F.softplus(-2 * difference) - math.log(2)).mean()


@register("psnr")
class PSNRLoss(Loss):
    """Mean over images of −PSNR in dB.

    floor: added to the mean squared error, so that images that are nearly right do not drown the
        others; 3e-4 counts 35 dB as right, 1.5e-5 counts 48 dB. It falls from the first to the
        second number over the training (`set_progress`).
    """

    unit_range = True

    def __init__(self, floor: float = 3e-4, last_floor: float | None = None) -> None:
        super().__init__()
        if floor <= 0 or (last_floor is not None and last_floor <= 0):
            raise ConfigError("psnr's floor must be positive")
        self.first, self.last = floor, last_floor or floor
        self.floor = floor

    def set_progress(self, share: float) -> None:
        """Tell how much of the training is over, 0…1."""
        self.floor = self.first * (self.last / self.first) ** share

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        return _decibels(restored, sharp, self.floor).mean()


@register("harm")
class HarmLoss(Loss):
    """Mean over images of the dB of PSNR that are lost to restoring them; 0 where some are gained.

    Beside `psnr`, for which a dB lost weighs no more than one gained: a network that is rewarded
    for its mean alone takes chances. floor: as of `psnr`; 1e-5 counts 50 dB as right, what is done
    to a sharp image as harm if it shows.
    """

    unit_range = True
    sees_blurred = True

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        if floor <= 0:
            raise ConfigError("harm's floor must be positive")
        self.floor = floor

    def forward(self, restored: Tensor, sharp: Tensor, blurred: Tensor) -> Tensor:
        before = _decibels(blurred, sharp, self.floor)
        return F.relu(_decibels(restored, sharp, self.floor) - before).mean()


def _decibels(image: Tensor, sharp: Tensor, floor: float) -> Tensor:
    """Of the error of each image, so much added to its mean square."""
    error = (image.float() - sharp).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(error + floor)
