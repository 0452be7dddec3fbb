"""`unblur data split` and `unblur data leak`: what trains, what validates, what does both."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import DataArgument, data_errors_for_people, parse_positions
from unblur.cli.errors import fail


class SplitKind(enum.StrEnum):
    """Values of --kind."""

    original = "original"
    sequence = "sequence"
    frames = "frames"


class SplitBy(enum.StrEnum):
    """Values of --by."""

    sequences = "sequences"
    images = "images"


def split(
    dataset: DataArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The split file to write (JSON).")],
    kind: Annotated[
        SplitKind,
        typer.Option(help="The authors' subsets, whole sequences by seed, or some frames of each."),
    ] = SplitKind.sequence,
    seed: Annotated[int, typer.Option(help="Which sequences validate.")] = 42,
    ratio: Annotated[float, typer.Option(help="The share that trains.")] = 0.85,
    by: Annotated[
        SplitBy, typer.Option(help="Whether the ratio counts sequences or images.")
    ] = SplitBy.sequences,
    frames: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Positions from 1, for --kind frames.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Assign whole sequences to training and validation."""
    if output.exists() and not overwrite:
        raise fail(f"{output}: exists already; use --overwrite to replace it", 2)
    from unblur.data import make_split, open_dataset, require_healthy, write_split

    with data_errors_for_people():
        found = require_healthy(open_dataset(dataset))
        positions = parse_positions(frames)
        made = make_split(found, kind.value, seed, ratio, by.value, positions)
        write_split(made, output)
    images = sum(made.train.values()) + sum(made.val.values())
    for name, part in (("train", made.train), ("val", made.val)):
        shown = ", ".join(list(part)[:6]) + (", …" if len(part) > 6 else "")
        count = sum(part.values())
        share = f"{count / images:.0%}"
        typer.echo(f"{name:6} {len(part)} sequences, {count} images ({share}): {shown}")
    if made.frames:
        short = sum(n < len(made.frames) for n in (made.train | made.val).values())
        if short:
            typer.echo(f"note   {short} sequences are too short for all of the frames")
    typer.echo(f"hash   {made.digest[:16]}")


def leak(
    validated: Annotated[Path, typer.Argument(metavar="A", help="The split validated on.")],
    trained: Annotated[Path, typer.Argument(metavar="B", help="The split trained on.")],
) -> None:
    """Say what of A's validation stands in B's training.

    Exit code 1 when something does.
    """
    from unblur.data import find_leak, read_split

    with data_errors_for_people():
        first, second = read_split(validated), read_split(trained)
        found = find_leak(first, second)
    if first.data != second.data:
        typer.echo(f"note: A splits {first.data}, B splits {second.data}")
    typer.echo(str(found))
    for name, images in found.sequences.items():
        typer.echo(f"  {name}: {images} images")
    if found.sequences:
        raise typer.Exit(1)
