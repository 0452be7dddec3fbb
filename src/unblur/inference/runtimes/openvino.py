"""OpenVINO: faster than ONNX Runtime on Intel and AMD processors, from the `openvino` extra."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from unblur.inference.card import ModelError
from unblur.inference.runtimes.base import Array, first_line, run_failure
from unblur.inference.runtimes.choice import BF16
from unblur.inference.runtimes.onnx import feeds, read_card, survey_feeds, surveyed


@cache
def _core() -> Any:
    """The one core of this process.

    Each core's CPU plugin replaces the main thread's stack for signal handlers and, when it goes,
    puts back the one that it found; with several, that may be one that is freed already, and the
    next signal (Ctrl-C, the end of a child process) would crash the process.
    """
    # Restoring a photo is nobody else's business: without this module OpenVINO reports nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import numpy as np
    import openvino

    # Its bindings look numpy up when they first need it; two threads that do so at once wait for
    # each other for ever.
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino.Core()


def openvino_devices() -> list[str]:
    return [device.lower() for device in _core().available_devices]


def has_bf16() -> bool:
    """Whether this processor computes in bf16, which is then about twice as fast."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoRuntime:
    """A model compiled by OpenVINO; every call has its own request.

    name: "openvino" computes in float32, "openvino-bf16" in bf16 where the card allows it.
    """

    def __init__(
        self, path: Path, device: str, threads: int | None, name: str = "openvino"
    ) -> None:
        self.name, self.device = name, device
        self.card = read_card(path)
        # Without the hint, OpenVINO computes in bf16 wherever the processor can.
        precision = "bf16" if name == BF16 and self.card.bf16 else "f32"
        config: dict[str, object] = {"INFERENCE_PRECISION_HINT": precision}
        if device == "cpu":
            # What is prepared for a size of image is not kept: with every size it would be more.
            config["CPU_RUNTIME_CACHE_CAPACITY"] = "0"
        if threads and device == "cpu":
            config["INFERENCE_NUM_THREADS"] = threads
            # Several processes with a few threads each would all be bound to the same cores.
            config["ENABLE_CPU_PINNING"] = False
        try:
            self._model = _core().compile_model(str(path), device.upper(), config)
        except Exception as error:
            raise ModelError(f"{path}: OpenVINO cannot load it ({first_line(error)})") from error

    def run(
        self, batch: Array, statistics: Array | None = None, weight: float = 1.0
    ) -> tuple[Array, Array | None]:
        restored, *own = self._outputs(feeds(self.card, batch, statistics, weight))
        return restored, own[0] if own else None

    def survey(self, batch: Array) -> Array:
        return surveyed(self.card, self._outputs(survey_feeds(self.card, batch)))

    def _outputs(self, inputs: dict[str, Any]) -> list[Array]:
        request = self._model.create_infer_request()
        try:
            return list(request.infer(inputs).values())
        except Exception as error:
            raise run_failure(self.card, error) from error
