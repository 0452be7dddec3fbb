"""A network as it is run on photos: values in [0, 1], global statistics as input and output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unblur.models.base import RestorationModel, SurveyingModel
from unblur.models.statistics import StatisticsTape, use_tape


class DeployedModel(nn.Module):
    """Wraps a restoration network for inference and export.

    forward(blurred) → (restored,) for local networks,
    forward(blurred, statistics, weight) → (restored, own statistics) for those with global layers:
    N×3×H×W, or N×6×H×W with a draft, in [0, 1] with H and W as the network demands, 1×S averages,
    a scalar from own (0) to given (1). A network with global layers takes a batch for tiles of one
    photo, whose averages are shared.
    forward(blurred, surveyed, known, cells) → (restored, own survey) for those that survey: what
    is seen of the cells of `surveyed`, M of them, and `known`, K×S, of those that were seen
    before; cells, N×rows×columns, says which of these M + K are those of `blurred`. So one graph
    surveys a photo, restores it with a survey of it, or does both at once.
    """

    def __init__(self, network: RestorationModel) -> None:
        super().__init__()
        self.network = network.eval()
        self.survey_size = network.survey_size if isinstance(network, SurveyingModel) else 0
        side = max(network.min_size, network.size_multiple)
        with torch.no_grad(), use_tape(StatisticsTape()) as tape:
            network.restore(torch.zeros(1, network.channels, side, side))
        self.statistics = tape.result().shape[1]

    def forward(
        self,
        blurred: Tensor,
        first: Tensor | None = None,
        second: Tensor | None = None,
        cells: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        if self.survey_size:
            own = seen = self.survey(blurred if first is None else first)
            if second is not None and cells is not None:
                seen = torch.cat([own.flatten(0, 2), second])[cells]
            return self.restore_surveyed(blurred, seen), own
        if not self.statistics:
            return (self._restore(blurred),)
        with use_tape(StatisticsTape(first, 0.0 if second is None else second)) as tape:
            restored = self._restore(blurred)
        return restored, tape.result()

    def _restore(self, blurred: Tensor) -> Tensor:
        return self._from_own_range(self.network.restore(self._in_own_range(blurred)))

    def survey(self, surveyed: Tensor) -> Tensor:
        """What is seen of the cells of a batch, N×rows×columns×survey_size."""
        assert isinstance(self.network, SurveyingModel)  # noqa: S101
        return self.network.survey(self._in_own_range(surveyed))

    def restore_surveyed(self, blurred: Tensor, survey: Tensor) -> Tensor:
        """A batch, restored with what was seen of its cells."""
        assert isinstance(self.network, SurveyingModel)  # noqa: S101
        restored = self.network.restore_surveyed(self._in_own_range(blurred), survey)
        return self._from_own_range(restored)

    def _in_own_range(self, x: Tensor) -> Tensor:
        black, white = self.network.value_range
        return x if (black, white) == (0.0, 1.0) else x * (white - black) + black

    def _from_own_range(self, x: Tensor) -> Tensor:
        black, white = self.network.value_range
        return x if (black, white) == (0.0, 1.0) else (x - black) / (white - black)
