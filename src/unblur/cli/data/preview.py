"""`unblur data preview`: a contact sheet of a data set or of a blur."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.data.arguments import BLUR_HELP, DataArgument, data_errors_for_people
from unblur.cli.errors import errors_for_people, fail


def preview(
    dataset: DataArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="SHEET.png", help="The picture to write.")
    ],
    blur: Annotated[str | None, typer.Option(metavar="BLUR", help=BLUR_HELP)] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many images.")] = 8,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 42,
    crop: Annotated[int, typer.Option(min=16, max=2048, help="Side of what is shown.")] = 256,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Make a contact sheet: sharp, blurred, kernel (or difference, amplified four times)."""
    from unblur import data
    from unblur.blur import parse_degradation
    from unblur.imaging import Photo, write_photo

    if output.exists() and not overwrite:
        raise fail(f"{output}: exists already; use --overwrite to replace it", 2)
    with data_errors_for_people(), errors_for_people():
        degradation = parse_degradation(blur) if blur else None
        found = data.require_healthy(data.open_dataset(dataset))
        data.require_outside(output, found.roots)
        sheet = data.contact_sheet(found, degradation, count, seed, crop)
        write_photo(Photo(sheet), output, overwrite=overwrite)
    typer.echo(f"{output}: {sheet.shape[1]}×{sheet.shape[0]}")
