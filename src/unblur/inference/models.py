"""The shipped models: their names, files and cards."""

from __future__ import annotations

import difflib
from pathlib import Path

from unblur.inference.card import ModelCard, ModelError
from unblur.inference.runtimes.choice import MODEL_SUFFIXES

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_MODEL = "small"


def shipped_models() -> dict[str, Path]:
    """Name → file of every model that came with the package, the smallest first."""
    files = sorted(WEIGHTS.glob("*.onnx"), key=lambda path: (path.stat().st_size, path.stem))
    return {path.stem: path for path in files}


def find_model(model: str | Path) -> Path:
    """The file of a model given by its shipped name or by a path. Raises ModelError."""
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model)
    if path.suffix.lower() not in MODEL_SUFFIXES:
        close = difflib.get_close_matches(str(model), shipped, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ModelError(
            f"unknown model '{model}'.{hint} Use one of {', '.join(shipped) or 'none'}, or the "
            f"path of a file ending in {', '.join(MODEL_SUFFIXES[:-1])} or {MODEL_SUFFIXES[-1]}"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    return path


def list_models() -> list[ModelCard]:
    """The cards of the shipped models, the smallest first."""
    from unblur.inference.runtimes.onnx import read_card

    return [read_card(path) for path in shipped_models().values()]
