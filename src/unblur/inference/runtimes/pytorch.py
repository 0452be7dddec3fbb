"""PyTorch: runs checkpoints directly, on the CPU, CUDA or Apple's MPS, from the `export` extra."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch

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
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        given = () if statistics is None else (torch.from_numpy(statistics).to(self.device), weight)
        try:
            with torch.inference_mode():
                outputs = self._model(x.contiguous(memory_format=torch.channels_last), *given)
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                raise TileMemoryError(str(error)) from error
            raise
        return outputs[0].float().cpu().numpy(), (
            outputs[1].float().cpu().numpy() if self.card.statistics else None
        )
