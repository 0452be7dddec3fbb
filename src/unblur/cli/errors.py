"""Errors of the packages → one line on stderr and an exit code."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import typer


def fail(message: str, code: int = 1) -> typer.Exit:
    """Print an error and return the exception to raise."""
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)
    return typer.Exit(code)


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Turn the errors that tell a user what to do into one line; others are bugs and stay loud."""
    from unblur.imaging import ImageError
    from unblur.inference import ModelError

    try:
        yield
    except (ImageError, ModelError) as error:
        raise fail(str(error), 1) from None


@contextmanager
def network_errors_for_people() -> Iterator[None]:
    """The same for commands that build networks, which need torch."""
    if importlib.util.find_spec("torch") is None:
        raise fail("this command needs torch: pip install 'unblur[export]'", 1)
    from unblur.models import ConfigError
    from unblur.models.checkpoint import CheckpointError

    try:
        with errors_for_people():
            yield
    except ConfigError as error:
        raise fail(str(error), 2) from None
    except CheckpointError as error:
        raise fail(str(error), 1) from None
