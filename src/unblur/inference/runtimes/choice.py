"""Which runtime runs a model: what the user asked for, or what is installed and faster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, get_args

from unblur.inference.card import ModelError
from unblur.inference.runtimes.base import Runtime

RuntimeName = Literal["auto", "onnxruntime", "openvino", "torch"]
RUNTIMES: tuple[str, ...] = get_args(RuntimeName)
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "torch"}


def installed_runtimes() -> list[str]:
    """The runtimes whose packages are installed."""
    return [name for name, module in _MODULES.items() if importlib.util.find_spec(module)]


def runtime_devices(name: str) -> list[str]:
    """The devices that an installed runtime finds on this machine."""
    if name == "onnxruntime":
        from unblur.inference.runtimes.onnx import onnx_devices

        return onnx_devices()
    if name == "openvino":
        from unblur.inference.runtimes.openvino import openvino_devices

        return openvino_devices()
    from unblur.inference.runtimes.pytorch import torch_devices

    return torch_devices()


def choose(path: Path, runtime: str) -> str:
    """The name of the runtime for a model file."""
    if runtime not in RUNTIMES:
        raise ModelError(f"unknown runtime '{runtime}': choose one of {', '.join(RUNTIMES)}")
    is_checkpoint = path.suffix.lower() in CHECKPOINT_SUFFIXES
    if runtime == "auto":
        if is_checkpoint:
            runtime = "torch"
        else:
            runtime = "openvino" if "openvino" in installed_runtimes() else "onnxruntime"
    if is_checkpoint != (runtime == "torch"):
        kind = "a checkpoint" if is_checkpoint else "an ONNX file"
        needed = "torch" if is_checkpoint else "onnxruntime or openvino"
        raise ModelError(f"{path}: {kind} runs on --runtime {needed}, not {runtime}")
    if runtime not in installed_runtimes():
        extra = "export" if runtime == "torch" else runtime
        raise ModelError(f"runtime {runtime} is not installed: pip install 'unblur[{extra}]'")
    return runtime


def load_runtime(path: Path, runtime: str, device: str, threads: int | None) -> Runtime:
    """Load a model file. device: "auto", or one that `unblur info` lists for the runtime."""
    name = choose(path, runtime)
    available = runtime_devices(name)
    if device == "auto":
        # A GPU where torch or ONNX Runtime finds one; OpenVINO's GPUs only when asked for.
        device = next((d for d in ("cuda", "mps") if d in available and name != "openvino"), "cpu")
    if device not in available:
        raise ModelError(
            f"runtime {name} has no device '{device}': it finds {', '.join(available)}"
        )
    if name == "onnxruntime":
        from unblur.inference.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(path, device, threads)
    if name == "openvino":
        from unblur.inference.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, device, threads)
    from unblur.inference.runtimes.pytorch import TorchRuntime

    return TorchRuntime(path, device, threads)
