"""`unblur demo`: a blurred picture drawn on the spot, and its restoration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli.errors import errors_for_people, fail


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write to.")] = Path(
        "unblur-demo"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the pictures of an earlier run.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="A name from `unblur models`, or a model file.")
    ] = "small",
) -> None:
    """Blur a drawn scene and make it sharp again.

    For a first look without a blurred photo at hand: draws a street, blurs it as a shaking camera
    would, restores it, and writes all of them with a comparison.
    """
    names = ("original.png", "blurred.png", "restored.png", "compare.png")
    if output.exists() and not output.is_dir():
        raise fail(f"{output}: is a file; name a folder", 2)
    existing = [name for name in names if (output / name).exists()]
    if existing and not overwrite:
        raise fail(
            f"{output / existing[0]}: exists already; use --overwrite, or another folder with -o", 2
        )
    from unblur.demo import make_demo

    with errors_for_people():
        psnr_blurred, psnr_restored = make_demo(output, model)
    typer.echo(
        f"{output}: {', '.join(names)}\n"
        f"blurred {psnr_blurred:.2f} dB → restored {psnr_restored:.2f} dB to the original"
    )
