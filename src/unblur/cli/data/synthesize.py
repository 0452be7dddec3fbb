"""`unblur data synthesize` and `unblur data blurs`: making blurred images of sharp ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import (
    BLUR_HELP,
    DEFAULT_WORKERS,
    DataArgument,
    WorkersOption,
    data_errors_for_people,
)
from unblur.cli.progress import progress_bar


def synthesize(
    dataset: DataArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DST", help="A new folder.")],
    blur: Annotated[str, typer.Option(metavar="BLUR", help=BLUR_HELP)],
    count: Annotated[
        int | None, typer.Option(min=1, help="How many pairs. Default: one of each image.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 42,
    only_blurred: Annotated[
        bool, typer.Option("--only-blurred", help="Do not write the sharp images as well.")
    ] = False,
    workers: WorkersOption = DEFAULT_WORKERS,
) -> None:
    """Blur sharp images: pairs in DST/blur and DST/sharp, kernels in DST/kernels.

    DST/manifest.jsonl says what was drawn for each. Interrupted, it goes on where it was when
    called again, with the same result.
    """
    from unblur import data
    from unblur.blur import parse_degradation

    with data_errors_for_people():
        degradation = parse_degradation(blur)
        found = data.require_healthy(data.open_dataset(dataset))
        with progress_bar("blurring") as show:
            made = data.synthesize(
                found,
                degradation,
                output,
                count=count,
                seed=seed,
                only_blurred=only_blurred,
                progress=show,
                workers=workers,
            )
    typer.echo(f"{made} {'blurred images' if only_blurred else 'pairs'} in {output}")


def blurs() -> None:
    """List the presets and the steps that blurs are made of."""
    import dataclasses

    from unblur.blur import STEPS, list_presets

    typer.echo("presets")
    for name, comment in list_presets().items():
        typer.echo(f"  {name:20} {comment}")
    typer.echo("\nsteps, with parameters (name:a=1,b=2..5), joined by +")
    for name, step in STEPS.items():
        fields = [field.name for field in dataclasses.fields(step)]  # type: ignore[arg-type]
        typer.echo(f"  {name:20} {', '.join(fields)}".rstrip())
    typer.echo(
        "  frames               window, gamma, stride (first of all: averages sequences)\n"
        "  preset               a preset as a step, in YAML: preset: camera"
    )
