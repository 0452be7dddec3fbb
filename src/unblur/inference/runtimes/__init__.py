"""What runs a model on tiles: one small class per runtime, chosen by `load_runtime`."""

from unblur.inference.runtimes.base import Runtime, TileMemoryError
from unblur.inference.runtimes.choice import RUNTIMES, installed_runtimes, load_runtime

__all__ = ["RUNTIMES", "Runtime", "TileMemoryError", "installed_runtimes", "load_runtime"]
