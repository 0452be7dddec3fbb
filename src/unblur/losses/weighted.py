"""Weighted sums of losses, as recipes describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from unblur.losses.base import create_loss
from unblur.losses.pixel import PSNRLoss
from unblur.registry import ConfigError


def weight_and_options(name: str, value: Any) -> tuple[float, dict[str, Any]]:
    """What a recipe says of a loss: its weight alone, or a mapping. Raises ConfigError."""
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConfigError(f"the weight of the loss {name} must be a number, got {weight!r}")
    return float(weight), options


class WeightedLoss(nn.Module):
    """A sum of named losses, each with a weight; terms of weight 0 are left out.

    config: {"charbonnier": 1.0} or, with options, {"perceptual": {"weight": 0.1, "layer": …}}.
    value_range: of the images it will get.
    Raises ConfigError for unknown losses and options, or when nothing is left.
    """

    def __init__(
        self, config: Mapping[str, Any], value_range: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        self.low, self.high = value_range
        for name, value in config.items():
            weight, options = weight_and_options(name, value)
            if weight != 0:
                self.terms[name] = create_loss(name, **options)
                self.weights[name] = weight
        if not self.weights:
            raise ConfigError("there is no loss with a weight other than 0")

    def set_progress(self, share: float) -> None:
        """Tell how much of the training is over, 0…1, for losses that change with it."""
        for term in self.terms.values():
            if isinstance(term, PSNRLoss):
                term.set_progress(share)

    def forward(
        self, restored: Tensor, sharp: Tensor, blurred: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term before its weight."""
        given = restored, sharp, blurred
        unit = given
        if (self.low, self.high) != (0.0, 1.0):
            restored, sharp, blurred = ((x - self.low) / (self.high - self.low) for x in given)
            unit = restored, sharp, blurred
        values = {}
        for name, term in self.terms.items():
            images = unit if term.unit_range else given
            values[name] = term(*images) if term.sees_blurred else term(*images[:2])
        total = sum(self.weights[name] * value for name, value in values.items())
        assert isinstance(total, Tensor)  # noqa: S101
        return total, {name: value.detach() for name, value in values.items()}
