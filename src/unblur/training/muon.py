"""Muon, an optimizer that turns all directions of a layer's weights alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

State = dict[str, Any]  # of one parameter

_ROUNDS = 5
_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ADAM_SIZE = 0.2  # root mean square of a step of Adam, in rates


class Muon(Optimizer):
    """Steps of momentum whose singular values are made equal; of other parameters, of Adam.

    Adam moves each weight about as far, which for a whole layer is a long way in the few
    directions that most gradients share and a short one in all others. K. Jordan et al., "Muon: an
    optimizer for hidden layers in neural networks", 2024; the size of a step, so that a rate that
    suits Adam suits it too, and decay by J. Liu et al., "Muon is scalable for LLM training", 2025.
    (`torch.optim` has one since 2.9, for matrices only.)

    groups: those with `orthogonal` hold weights of convolutions and linear layers, whose first
    axis is one side of the matrix. The others are for Adam, with betas.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": 0.0}
        super().__init__(groups, {**defaults, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            move = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = move(self.state[parameter], parameter.grad, group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * direction)
        return loss

    @staticmethod
    def _orthogonal(state: State, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = torch.lerp(gradient, mean, group["momentum"]).flatten(1)  # Nesterov's
        return (_ADAM_SIZE * math.sqrt(max(ahead.shape)) * orthogonal(ahead)).view_as(gradient)

    @staticmethod
    def _adam(state: State, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = (torch.zeros_like(gradient) for _ in range(2))
        state["step"] += 1
        fast, slow = group["betas"]
        state["mean"].lerp_(gradient, 1 - fast)
        state["square"].lerp_(gradient.square(), 1 - slow)
        mean = state["mean"] / (1 - fast ** state["step"])
        return mean / ((state["square"] / (1 - slow ** state["step"])).sqrt() + 1e-8)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix with orthogonal rows or columns: singular values between 0.7 and
    1.2, but for those that are nearly 0. By a polynomial of odd powers that pulls them there
    (Newton and Schulz), without a decomposition."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    # Each round multiplies by a polynomial of the squares, a matrix of the shorter side only.
    first, third, fifth = _COEFFICIENTS
    x = matrix.float() / matrix.float().norm().clamp_min(1e-12)
    squares = x @ x.T
    product = torch.eye(len(x), device=x.device)
    for _ in range(_ROUNDS):
        factor = torch.addmm(third * squares, squares, squares, alpha=fifth)
        factor.diagonal().add_(first)
        product = factor @ product
        squares = factor @ squares @ factor
    return (product @ x).to(matrix.dtype)
