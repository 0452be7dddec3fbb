"""Global statistics of feature maps that can be recorded on one image and replayed on its tiles.

Instance normalisation and global pooling average over the whole input. Cut into tiles, a network
with such layers would normalise every tile by its own averages, and neighbours would disagree.
Here these layers ask a tape for their averages: while it records, averages over the whole batch
(tiles sampled from one photo) are used and noted; while it replays, the ones given, those noted
before, take the place of a tile's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn


class StatisticsTape:
    """The averages of every global layer in the order of execution.

    given: 1×S averages to use instead of the batch's own, None to use the own,
    weight: between own (0) and given (1), a scalar tensor so that it can be a graph's input.
    """

    def __init__(self, given: Tensor | None = None, weight: Tensor | float = 1.0) -> None:
        self.given, self.weight = given, weight
        self.recorded: list[Tensor] = []
        self._position = 0

    def exchange(self, own: Tensor) -> Tensor:
        """Note the batch's mean of a layer's N×C averages; return the 1×C ones it shall use."""
        own = own.mean(dim=0, keepdim=True)
        self.recorded.append(own)
        if self.given is None:
            return own
        given = self.given[:, self._position : self._position + own.shape[1]]
        self._position += own.shape[1]
        return own + self.weight * (given - own)

    def result(self) -> Tensor:
        """All own averages as 1×S; S is 0 for networks without global layers."""
        return torch.cat(self.recorded, dim=1) if self.recorded else torch.empty(1, 0)


_active: ContextVar[StatisticsTape | None] = ContextVar("statistics_tape", default=None)


@contextmanager
def use_tape(tape: StatisticsTape) -> Iterator[StatisticsTape]:
    """Let the global layers run inside use `tape`; other threads are not concerned."""
    token = _active.set(tape)
    try:
        yield tape
    finally:
        _active.reset(token)


class GlobalMean(nn.Module):
    """N×C×H×W → N×C×1×1 means over the image, through the tape when there is one."""

    def forward(self, x: Tensor) -> Tensor:
        own = x.mean(dim=(2, 3))
        tape = _active.get()
        return (tape.exchange(own) if tape else own)[:, :, None, None]


class InstanceNorm(nn.InstanceNorm2d):
    """Affine instance normalisation whose mean and variance go through the tape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        tape = _active.get()
        if tape is None:
            return super().forward(x)
        # First and second moments, unlike variances, average correctly over tiles.
        mean = tape.exchange(x.mean(dim=(2, 3)))
        square = tape.exchange((x * x).mean(dim=(2, 3)))
        scale = self.weight * torch.rsqrt((square - mean * mean).clamp_min(0) + self.eps)
        shift = self.bias - mean * scale
        return x * scale[:, :, None, None] + shift[:, :, None, None]
