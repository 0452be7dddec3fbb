"""PyTorch: runs checkpoints directly, on the CPU, CUDA or Apple's MPS, from the `export` extra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unblur.inference.card import ModelCard, ModelError
from unblur.inference.describe import describe
from unblur.inference.runtimes.base import Array, TileMemoryError, out_of_memory
from unblur.models import RestorationModel
from unblur.models.checkpoint import CheckpointError, load_checkpoint
from unblur.models.deploy import DeployedModel


def torch_devices() -> list[str]:
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


class TorchRuntime:
    """A checkpoint in PyTorch, channels-last; calls from several threads share its weights."""

    name = "torch"

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        if threads:
            torch.set_num_threads(threads)
        try:
            architecture, options, network = load_checkpoint(path)
            self.card: ModelCard = describe(path.stem, architecture, options, network)
            deployed = DeployedModel(cast(RestorationModel, network))
        except (CheckpointError, ValueError) as error:
            raise ModelError(str(error)) from error
        self.device = device
        self._model = deployed.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(
        self, batch: Array, statistics: Array | None = None, weight: float = 1.0
    ) -> tuple[Array, Array | None]:
        model, told = self._model, self._moved(statistics)
        if told is None:
            restored, *own = self._outputs(model, batch)
        elif self.card.survey:
            restored, *own = self._outputs(lambda x: (model.restore_surveyed(x, told),), batch)
        else:
            restored, *own = self._outputs(lambda x: model(x, told, weight), batch)
        return restored, own[0] if own else None

    def survey(self, batch: Array) -> Array:
        return self._outputs(lambda x: (self._model.survey(x),), batch)[0]

    def _outputs(self, call: Callable[[Tensor], tuple[Tensor, ...]], batch: Array) -> list[Array]:
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        try:
            with torch.inference_mode():
                outputs = call(x.contiguous(memory_format=torch.channels_last))
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                raise TileMemoryError(str(error)) from error
            raise
        return [output.float().cpu().numpy() for output in outputs]

    def _moved(self, statistics: Array | None) -> Tensor | None:
        return None if statistics is None else torch.from_numpy(statistics).to(self.device)
