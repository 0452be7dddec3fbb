"""`unblur data prepare`: picking, resizing and cutting the images of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import (
    DEFAULT_WORKERS,
    DataArgument,
    WorkersOption,
    data_errors_for_people,
    parse_pair,
    parse_positions,
)
from unblur.cli.progress import progress_bar


def prepare(
    dataset: DataArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DST", help="A new folder.")],
    frames: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Only these frames of each, from 1.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Resize all, such as 256x448.")
    ] = None,
    patches: Annotated[
        str | None, typer.Option(metavar="RxC", help="Then cut each into rows x columns.")
    ] = None,
    workers: WorkersOption = DEFAULT_WORKERS,
) -> None:
    """Write a data set anew: some frames, resized, cut into patches.

    Interrupted, it goes on where it was when called again. PNG, JPEG and WebP files that
    nothing is done to are copied as they are.
    """
    from dataclasses import replace

    from unblur import data

    side, grid = parse_pair(size, "--size", "256x448"), parse_pair(patches, "--patches", "3x4")
    positions = parse_positions(frames)
    with data_errors_for_people():
        found = data.require_healthy(data.open_dataset(dataset))
        found = replace(found, pairs=tuple(data.select_frames(found.pairs, positions)))
        if side:
            found = data.resized(found, *side)
        if grid:
            found = data.in_patches(found, *grid)
        about = {"frames": positions, "size": side, "patches": grid}
        with progress_bar("preparing") as show:
            count = data.prepare(found, output, about, show, workers)
    typer.echo(f"{count} {'pairs' if found.is_paired else 'images'} in {output}")
