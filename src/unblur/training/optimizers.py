"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from unblur.registry import ConfigError, unknown
from unblur.training.config import OptimizerConfig, ScheduleConfig

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "plateau", "exponential", "step", "one_cycle")


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions and linear layers decay; biases and normalisations do not."""
    trained = [p for p in network.parameters() if p.requires_grad]
    decaying = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    config: OptimizerConfig, network: nn.Module, precision: str = "32"
) -> Optimizer:
    """Raises ConfigError for an unknown name or a learning rate that is not positive."""
    if config.lr <= 0:
        raise ConfigError(f"the learning rate must be positive, got {config.lr:g}")
    if len(config.betas) != 2 or not all(0 <= beta < 1 for beta in config.betas):
        raise ConfigError(f"betas are two numbers in [0, 1), got {config.betas}")
    groups = parameter_groups(network, config.weight_decay)
    betas = (config.betas[0], config.betas[1])
    # All parameters in one kernel, where Lightning lets it: in mixed precision it refuses to clip
    # the gradients of optimizers that could also unscale them.
    fused = precision == "32"
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, config.lr, betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, config.lr, betas, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, config.lr, alpha=config.rho)
        case "sgd":
            return torch.optim.SGD(groups, config.lr, momentum=config.momentum, fused=fused)
    raise unknown("optimizer", config.name, OPTIMIZERS)


class _OneCycle(OneCycleLR):
    """One that can be prolonged: its length is this run's, not that of a loaded state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        length = {"total_steps": self.total_steps, "_schedule_phases": self._schedule_phases}
        super().load_state_dict(state_dict | length)


def build_schedule(
    config: ScheduleConfig, optimizer: Optimizer, steps: int, epoch_ends: Sequence[int]
) -> LRScheduler | ReduceLROnPlateau:
    """A schedule that is advanced once a step, except for plateau: once a validation.

    steps: of the optimizer in the whole training. epoch_ends: how many of them have been made at
    the end of each epoch. Raises ConfigError for an unknown name.
    """
    rate = optimizer.param_groups[0]["lr"]
    if config.name == "plateau":
        return ReduceLROnPlateau(optimizer, "max", config.factor, config.patience)
    if config.name == "one_cycle":
        final = rate / 25 / max(config.final_lr, 1e-12)
        return _OneCycle(optimizer, rate, total_steps=steps, final_div_factor=final)
    curve = _curve(config, rate, steps, epoch_ends)

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / (config.warmup + 1))
        return warm * curve(step)

    return LambdaLR(optimizer, factor)


def _curve(
    config: ScheduleConfig, rate: float, steps: int, epoch_ends: Sequence[int]
) -> Callable[[int], float]:
    final = config.final_lr / rate
    match config.name:
        case "constant":
            return lambda step: 1.0
        case "cosine":
            return lambda step: (
                final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
            )
        case "exponential":
            return lambda step: (
                config.factor ** max(0, bisect_right(epoch_ends, step) - config.start)
            )
        case "step":
            return lambda step: (
                config.factor ** (bisect_right(epoch_ends, step) // max(1, config.every))
            )
    raise unknown("schedule", config.name, SCHEDULES)
