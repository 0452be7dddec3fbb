"""`unblur bulk`: archives of photos, on this machine or a cluster."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from unblur.cli.errors import errors_for_people, fail
from unblur.cli.progress import progress_bar
from unblur.cli.run import RuntimeChoice

_SHOWN_ERRORS = 10


def bulk(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A folder or address, such as s3://bucket/photos.")
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where the results go, under the same names.")
    ],
    engine: Annotated[
        str, typer.Option(help="local (processes of this machine) or ray (a cluster).")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Where a Ray cluster is: ray://HOST:10001 or auto. Default: a new one."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one for each core.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="How many each process computes with.")
    ] = 1,
    model: Annotated[
        str, typer.Option(help="A name from `unblur models`, or a file that all machines have.")
    ] = "small",
    strength: Annotated[float, typer.Option(min=0, max=1, help="As in `unblur run`.")] = 1.0,
    format_: Annotated[str | None, typer.Option("--format", help="As in `unblur run`.")] = None,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="As in `unblur run`.")] = None,
    runtime: Annotated[
        RuntimeChoice, typer.Option(help="As in `unblur run`.")
    ] = RuntimeChoice.auto,
    device: Annotated[str, typer.Option(help="As in `unblur run`.")] = "auto",
    max_pixels: Annotated[
        float, typer.Option(min=0.01, max=100_000, metavar="MP", help="Refuse larger photos.")
    ] = 170.0,
) -> None:
    """Sharpen all photos of a folder or bucket into another.

    DST/_unblur/manifest.parquet says what became of each photo. Called again, it goes on: photos
    that are done are not done again, failed ones are. docs/scale.md says how to plan for very many
    photos.

    Exit code: 0 all restored, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise fail("this needs pyarrow: pip install 'unblur[scale]'", 1)
    from unblur.bulk import ENGINES, BulkError, Settings, plan_bulk, run_bulk
    from unblur.imaging import ImageError, parse_format

    settings = Settings(
        model, strength, format_, quality, runtime.value, device, threads, int(max_pixels * 1e6)
    )
    try:
        if engine not in ENGINES:
            raise BulkError(f"unknown engine '{engine}': choose one of {', '.join(ENGINES)}")
        if format_:
            parse_format(format_)
        with errors_for_people():
            plan = plan_bulk(source, destination, settings)
            typer.echo(f"{len(plan.names)} photos to restore, {plan.done} done before", err=True)
            with progress_bar("restoring") as progress:
                totals = run_bulk(plan, engine, workers, address, progress)
    except (BulkError, ImageError) as error:
        raise fail(str(error), 2) from None
    for text in totals.errors[:_SHOWN_ERRORS]:
        typer.echo(f"failed: {text}", err=True)
    if len(totals.errors) > _SHOWN_ERRORS:
        typer.echo(f"failed: {len(totals.errors) - _SHOWN_ERRORS} more", err=True)
    typer.echo(
        f"in all {totals.ok} restored ({totals.megapixels:.1f} MP), {totals.failed} failed",
        err=True,
    )
    typer.echo(totals.manifest)
    if totals.failed or not totals.ok:
        raise typer.Exit(1)
