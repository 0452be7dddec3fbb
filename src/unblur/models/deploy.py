"""A network as it is run on photos: values in [0, 1], global statistics as input and output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unblur.models.base import RestorationModel
from unblur.models.statistics import StatisticsTape, use_tape


class DeployedModel(nn.Module):
    """Wraps a restoration network for inference and export.

    forward(blurred) → (restored,) for local networks,
    forward(blurred, statistics, weight) → (restored, own statistics) for those with global layers:
    N×3×H×W in [0, 1] with H and W as the network demands, 1×S averages, a scalar from own (0) to
    given (1). A network with global layers takes a batch for tiles of one photo, whose averages
    are shared.
    """

    def __init__(self, network: RestorationModel) -> None:
        super().__init__()
        self.network = network.eval()
        side = max(network.min_size, network.size_multiple)
        with torch.no_grad(), use_tape(StatisticsTape()) as tape:
            network.restore(torch.zeros(1, 3, side, side))
        self.statistics = tape.result().shape[1]

    def forward(
        self, blurred: Tensor, statistics: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        if not self.statistics:
            return (self._restore(blurred),)
        with use_tape(StatisticsTape(statistics, 0.0 if weight is None else weight)) as tape:
            restored = self._restore(blurred)
        return restored, tape.result()

    def _restore(self, blurred: Tensor) -> Tensor:
        black, white = self.network.value_range
        if (black, white) == (0.0, 1.0):
            return self.network.restore(blurred)
        return (self.network.restore(blurred * (white - black) + black) - black) / (white - black)
