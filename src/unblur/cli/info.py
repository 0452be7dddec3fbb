"""`unblur info`: versions, runtimes and devices."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Annotated, Any

import typer

_PACKAGES = ("numpy", "pillow", "pyvips", "onnxruntime", "openvino", "torch", "onnx", "pillow-heif")


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, runtimes and devices."""
    from unblur import __version__
    from unblur.imaging import FORMATS
    from unblur.inference import shipped_models
    from unblur.inference.runtimes import RUNTIMES, installed_runtimes
    from unblur.inference.runtimes.choice import BF16, runtime_devices

    installed = installed_runtimes()
    runtimes: dict[str, Any] = {}
    for name in RUNTIMES[1:]:
        if name == BF16 and name not in installed:
            continue  # nothing that could be installed would bring it
        try:
            runtimes[name] = runtime_devices(name) if name in installed else None
        except Exception as error:  # a broken install of an extra must not break this report
            runtimes[name] = f"installed, but does not load: {error}"
    facts: dict[str, Any] = {
        "unblur": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "runtimes": runtimes,
        "models": list(shipped_models()),
        "formats": [name for name in FORMATS if name != "HEIF" or _version("pillow-heif")],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key in ("unblur", "python", "platform", "cores"):
        typer.echo(f"{key:10} {facts[key]}")
    for name, version in facts["packages"].items():
        typer.echo(f"  {name:12} {version or 'not installed'}")
    for name, devices in runtimes.items():
        shown = ", ".join(devices) if isinstance(devices, list) else devices or "not installed"
        typer.echo(f"runtime    {name}: {shown}")
    typer.echo(f"models     {', '.join(facts['models'])}")
    typer.echo(f"formats    {', '.join(facts['formats'])}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
