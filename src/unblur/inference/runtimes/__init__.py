"""What runs a model on tiles: one small class per runtime, chosen by `load_runtime`."""

from unblur.inference.runtimes.base import OutOfMemory, Runtime
from unblur.inference.runtimes.choice import RUNTIMES, installed_runtimes, load_runtime

__all__ = ["RUNTIMES", "OutOfMemory", "Runtime", "installed_runtimes", "load_runtime"]
