"""Photos → sharp photos: the engine, its tiles and runtimes, and the model files it runs."""

from unblur.inference.card import ModelCard, ModelError
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.models import DEFAULT_MODEL, list_models, shipped_models

__all__ = ["DEFAULT_MODEL", "Deblurrer", "ModelCard", "ModelError", "list_models", "shipped_models"]
