"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from unblur.registry import ConfigError, unknown
from unblur.training.config import OptimizerConfig, ScheduleConfig
from unblur.training.muon import Muon

OPTIMIZERS = ("adam", "adamw", "muon", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "plateau", "exponential", "step", "one_cycle")


Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def parameter_groups(
    network: nn.Module, weight_decay: float, lr: float, full_rate_inputs: int | None = None
) -> list[dict[str, Any]]:
    """Weights of convolutions and linear layers decay; biases and normalisations do not.

    full_rate_inputs: where an output has more inputs, weights learn that much more slowly.
    """
    inputs = {module.weight: _inputs(module) for module in _layers(network)}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            factor = min(1.0, (full_rate_inputs or math.inf) / inputs.get(parameter, 1))
            groups.setdefault((parameter.ndim > 1, factor), []).append(parameter)
    return [
        {"params": params, "weight_decay": weight_decay if decays else 0.0, "lr": lr * factor}
        for (decays, factor), params in sorted(groups.items(), key=itemgetter(0), reverse=True)
    ]


def split_groups(network: nn.Module, groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group as one of weights that are matrices, `orthogonal`, and one of all others: biases,
    scales and depthwise convolutions."""
    matrices = {
        layer.weight
        for layer in _layers(network)
        if isinstance(layer, nn.Linear) or layer.groups == 1
    }
    split = []
    for group in groups:
        for orthogonal in (True, False):
            params = [each for each in group["params"] if (each in matrices) == orthogonal]
            split.append(group | {"params": params, "orthogonal": orthogonal})
    return [group for group in split if group["params"]]


def _layers(network: nn.Module) -> list[Layer]:
    return [module for module in network.modules() if isinstance(module, Layer)]


def _inputs(layer: Layer) -> float:
    """How many numbers each output is a sum of."""
    if isinstance(layer, nn.ConvTranspose2d):
        taps = math.prod(layer.kernel_size) / math.prod(layer.stride)
        return layer.in_channels / layer.groups * taps
    return layer.weight[0].numel()


def build_optimizer(
    config: OptimizerConfig, network: nn.Module, precision: str = "32"
) -> Optimizer:
    """Raises ConfigError for an unknown name or a learning rate that is not positive."""
    if config.lr <= 0:
        raise ConfigError(f"the learning rate must be positive, got {config.lr:g}")
    if len(config.betas) != 2 or not all(0 <= beta < 1 for beta in config.betas):
        raise ConfigError(f"betas are two numbers in [0, 1), got {config.betas}")
    groups = parameter_groups(network, config.weight_decay, config.lr, config.full_rate_inputs)
    betas = (config.betas[0], config.betas[1])
    # All parameters in one kernel, where Lightning lets it: in mixed precision it refuses to clip
    # the gradients of optimizers that could also unscale them.
    fused = precision == "32"
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, config.lr, betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, config.lr, betas, fused=fused)
        case "muon":
            return Muon(split_groups(network, groups), config.lr, betas)
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
    rate = optimizer.defaults["lr"]  # groups may have lower ones
    if config.name == "plateau":
        return ReduceLROnPlateau(optimizer, "max", config.factor, config.patience)
    if config.name == "one_cycle":
        final = rate / 25 / max(config.final_lr, 1e-12)
        rates = [group["lr"] for group in optimizer.param_groups]
        return _OneCycle(
            optimizer, rates, total_steps=steps, final_div_factor=final, cycle_momentum=False
        )
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
