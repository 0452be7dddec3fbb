"""`unblur data shard`: packing a data set into tar files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import (
    DEFAULT_WORKERS,
    DataArgument,
    WorkersOption,
    data_errors_for_people,
)
from unblur.cli.progress import progress_bar


def shard(
    dataset: DataArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder.")],
    split: Annotated[
        Path | None, typer.Option(metavar="SPLIT.json", help="Separate shards for train and val.")
    ] = None,
    per_shard: Annotated[int, typer.Option(min=1, help="Images or pairs in one file.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the order in them.")] = 42,
    workers: WorkersOption = DEFAULT_WORKERS,
) -> None:
    """Pack a data set into WebDataset tar shards, read back as prepared:DIR or by URL.

    Interrupted, it goes on with the first shard that is not complete when called again.
    """
    from unblur import data

    with data_errors_for_people():
        found = data.require_healthy(data.open_dataset(dataset))
        chosen = data.read_split(split) if split else None
        with progress_bar("packing") as show:
            files = data.write_shards(
                found,
                output,
                split=chosen,
                per_shard=per_shard,
                seed=seed,
                progress=show,
                workers=workers,
            )
    size = sum((output / file).stat().st_size for file in files)
    typer.echo(f"{len(files)} shards, {size / 2**20:.1f} MiB, in {output}")
