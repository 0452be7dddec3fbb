"""What `summary` and `export` share: a network by the name of an architecture, model or file."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

NetworkArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="An architecture, a shipped model, or the file of a checkpoint or a model.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="OPTION=VALUE", help="An option of the architecture; repeatable."
    ),
]


def as_file(target: str) -> str:
    """The file of a shipped model, if that is what is named; anything else as it is."""
    from unblur.inference.models import shipped_models

    return str(shipped_models().get(target, target))


def build_network(target: str, settings: list[str] | None) -> tuple[str, dict[str, Any], nn.Module]:
    """(architecture, options, network) for an architecture's name or a file's path."""
    from unblur.inference.runtimes.choice import MODEL_SUFFIXES
    from unblur.inference.weights import load_network
    from unblur.models import ConfigError, create_model

    if Path(target).suffix.lower() in MODEL_SUFFIXES:
        if settings:
            raise ConfigError("--set is for architectures; a file knows its own options")
        return load_network(Path(target))
    options: dict[str, Any] = {}
    for setting in settings or []:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set takes OPTION=VALUE, got '{setting}'")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return target, options, create_model(target, **options).eval()
