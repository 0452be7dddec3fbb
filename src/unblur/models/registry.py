"""Names → networks: every architecture is registered once and built by `create_model`."""

from __future__ import annotations

from typing import Any

from torch import nn

from unblur.registry import ConfigError, Registry

__all__ = [
    "ConfigError",
    "architectures",
    "create_model",
    "list_models",
    "model_options",
    "register",
]

_models: Registry[nn.Module] = Registry("model")
register = _models.register
list_models = _models.names
architectures = _models.items
model_options = _models.options


def create_model(name: str, **options: Any) -> nn.Module:
    """Build a network with fresh weights.

    Restoration networks map N×3×H×W to N×3×H×W of any size. Raises ConfigError, which lists the
    valid names, for an unknown architecture or option.
    """
    return _models.create(name, **options)
