"""Losses for restoration, one file per family, and weighted sums of them by name."""

from unblur.losses import (  # noqa: F401  (importing a module registers its losses)
    edges,
    fourier,
    perceptual,
    pixel,
    structure,
)
from unblur.losses.base import Loss, list_losses, loss_options
from unblur.losses.multiscale import MultiScaleLoss
from unblur.losses.perceptual import WeightsError
from unblur.losses.weighted import WeightedLoss, weight_and_options

__all__ = [
    "Loss",
    "MultiScaleLoss",
    "WeightedLoss",
    "WeightsError",
    "list_losses",
    "loss_options",
    "weight_and_options",
]
