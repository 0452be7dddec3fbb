"""unblur makes blurred photos sharp.

import unblur
sharp = unblur.deblur(image)          # path, bytes, PIL image or array: the same kind comes back
deblurrer = unblur.Deblurrer("small") # for many images, from many threads
unblur.list_models()                  # cards of the shipped models
unblur.compare(image, sharp)          # both in a notebook, with a slider
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unblur.api import Deblurrer, deblur, list_models
    from unblur.notebook import compare

__all__ = ["Deblurrer", "__version__", "compare", "deblur", "list_models"]


def __getattr__(name: str) -> Any:
    # numpy and onnxruntime are loaded when something needs them, so that `unblur --help` is quick.
    if name in ("Deblurrer", "deblur", "list_models"):
        return getattr(importlib.import_module("unblur.api"), name)
    if name == "compare":
        return importlib.import_module("unblur.notebook").compare
    raise AttributeError(f"module 'unblur' has no attribute '{name}'")
