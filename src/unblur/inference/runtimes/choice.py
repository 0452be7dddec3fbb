"""Which runtime runs a model: what the user asked for, or the faster one in float32."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

from unblur.inference.card import ModelError
from unblur.inference.runtimes.base import Runtime

RUNTIMES = ("auto", "onnxruntime", "openvino", "openvino-bf16", "torch")
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
MODEL_SUFFIXES = (".onnx", *CHECKPOINT_SUFFIXES)
BF16 = "openvino-bf16"


def installed_runtimes() -> list[str]:
    """The runtimes whose packages are installed, without OpenVINO in bf16 where it is no faster."""
    return [name for name in RUNTIMES[1:] if _is_installed(name) and (name != BF16 or _has_bf16())]


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec("openvino" if name == BF16 else name) is not None


def _has_bf16() -> bool:
    from unblur.inference.runtimes.openvino import has_bf16

    try:
        return has_bf16()
    except Exception:  # a broken install, of which loading a model tells more
        return False


def precision(runtime: str) -> str:
    """What a runtime computes in: results in different ones are not to be mixed."""
    return "bf16" if runtime == BF16 else "float32"


def runtime_devices(name: str) -> list[str]:
    """The devices that an installed runtime finds on this machine."""
    if name == "onnxruntime":
        from unblur.inference.runtimes.onnx import onnx_devices

        return onnx_devices()
    if name == BF16:
        return ["cpu"]  # its GPUs compute in float16 or float32
    if name == "openvino":
        from unblur.inference.runtimes.openvino import openvino_devices

        return openvino_devices()
    from unblur.inference.runtimes.pytorch import torch_devices

    return torch_devices()


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one of PyTorch's, not an ONNX file, to judge by its name."""
    return path.suffix.lower() in CHECKPOINT_SUFFIXES


def choose(path: Path, runtime: str) -> str:
    """The name of the runtime for a model file."""
    if runtime not in RUNTIMES:
        raise ModelError(f"unknown runtime '{runtime}': choose one of {', '.join(RUNTIMES)}")
    checkpoint = is_checkpoint(path)
    if runtime == "auto":
        if checkpoint:
            runtime = "torch"
        else:
            runtime = "openvino" if _is_installed("openvino") else "onnxruntime"
    if checkpoint != (runtime == "torch"):
        kind = "a checkpoint" if checkpoint else "an ONNX file"
        needed = "torch" if checkpoint else "onnxruntime or openvino"
        raise ModelError(f"{path}: {kind} runs on --runtime {needed}, not {runtime}")
    if not _is_installed(runtime):
        extra = {"torch": "export", BF16: "openvino"}.get(runtime, runtime)
        raise ModelError(f"runtime {runtime} is not installed: pip install 'unblur[{extra}]'")
    if runtime == BF16 and not _has_bf16():
        raise ModelError("this processor does not compute in bf16: use --runtime openvino")
    return runtime


def load_runtime(path: Path, runtime: str, device: str, threads: int | None) -> Runtime:
    """Load a model file. device: "auto", or one that `unblur info` lists for the runtime."""
    name = choose(path, runtime)
    available = runtime_devices(name)
    may_fall_back = device == "auto"
    if device == "auto":
        # A GPU where torch or ONNX Runtime finds one; OpenVINO's GPUs only when asked for.
        device = next((d for d in ("cuda", "mps") if d in available and name != "openvino"), "cpu")
    if device not in available:
        raise ModelError(
            f"runtime {name} has no device '{device}': it finds {', '.join(available)}"
        )
    if name == "onnxruntime":
        from unblur.inference.runtimes.onnx import OnnxRuntime

        if may_fall_back and device != "cpu":
            with contextlib.suppress(ModelError):  # built into it, but of no use without a driver
                return OnnxRuntime(path, device, threads)
            device = "cpu"
        return OnnxRuntime(path, device, threads)
    if name in ("openvino", BF16):
        from unblur.inference.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, device, threads, name)
    from unblur.inference.runtimes.pytorch import TorchRuntime

    return TorchRuntime(path, device, threads)
