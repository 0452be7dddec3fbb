"""`unblur data check`: looking through a data set."""

from __future__ import annotations

import typer

from unblur.cli.data.arguments import DataArgument, data_errors_for_people
from unblur.cli.errors import fail
from unblur.cli.progress import progress_bar


def check(dataset: DataArgument) -> None:
    """Look through a data set for what would stop or spoil a training.

    Decodes every image. Exit code 1 when something is wrong.
    """
    from unblur.data import check_dataset, open_dataset

    with data_errors_for_people():
        found = open_dataset(dataset)
    with progress_bar("decoding") as show:
        report = check_dataset(found, show)
    blurred = sum(pair.blurred is not None for pair in found.pairs)
    typer.echo(f"layout     {found.layout}")
    typer.echo(f"images     {len(found.pairs)} sharp, {blurred} with a blurred partner")
    typer.echo(f"sequences  {len(found.sequences)}")
    sizes = ", ".join(f"{w}×{h} ({n})" for (w, h), n in report.sizes.most_common(5))
    typer.echo(f"sizes      {sizes}{', …' if len(report.sizes) > 5 else ''}")
    for remark in report.remarks:
        typer.echo(f"note       {remark}")
    for problem in report.problems:
        typer.echo(f"problem    {problem}")
    if report.problems:
        raise fail(f"{len(report.problems)} problems in {found.spec}")
    typer.echo("healthy")
