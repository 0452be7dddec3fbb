"""What the data commands share: how a data set and a blur are named, and errors for people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from unblur.cli.errors import fail

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="layout:path or a path: gopro, gopro_gamma, reds, hide, realblur, rsblur, cifar, "
        "flat, sharp, image, prepared (also shards, also by URL), mix, auto.",
    ),
]

BLUR_HELP = (
    "A preset (see `unblur data blurs`), a YAML file, or steps such as "
    "gaussian:sigma=1.6,size=11 or shake:extent=5..30+noise:read=0.01."
)
WorkersOption = Annotated[
    int,
    typer.Option(min=1, help="Images worked on at a time. Default: all cores.", show_default=False),
]
DEFAULT_WORKERS = os.cpu_count() or 1


@contextmanager
def data_errors_for_people() -> Iterator[None]:
    """Turn the errors that tell a user what to do into one line."""
    from unblur.blur import BlurError
    from unblur.data import DataError

    try:
        yield
    except (DataError, BlurError) as error:
        raise fail(str(error), 1) from None


def parse_positions(text: str | None) -> list[int] | None:
    """1,40,80 → positions."""
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise fail(f"--frames takes positions such as 1,40,80, got '{text}'", 2) from None


def parse_pair(text: str | None, option: str, example: str) -> tuple[int, int] | None:
    """256x448 → (256, 448)."""
    if text is None:
        return None
    try:
        first, second = (int(word) for word in text.lower().replace("×", "x").split("x"))
        if min(first, second) < 1:
            raise ValueError
    except ValueError:
        raise fail(f"{option} takes two whole numbers such as {example}, got '{text}'", 2) from None
    return first, second
