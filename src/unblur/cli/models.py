"""`unblur models`: the cards of the shipped models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur.cli.errors import errors_for_people

if TYPE_CHECKING:
    from unblur.inference import ModelCard


def models(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Model files (.onnx). Default: the shipped models."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """Show the models: training data, quality, speed."""
    from unblur.inference import shipped_models
    from unblur.inference.models import find_model
    from unblur.inference.runtimes.onnx import read_card

    paths = files or list(shipped_models().values())
    with errors_for_people():
        paths = [find_model(path) for path in paths]
        cards = [(path, read_card(path)) for path in paths]
    if as_json:
        rows = [
            dataclasses.asdict(card) | {"file": str(path), "bytes": path.stat().st_size}
            for path, card in cards
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for path, card in cards:
        table = Table(
            title=escape(f"{card.name}  (version {card.version})"),
            show_header=False,
            title_justify="left",
        )
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        if card.description:
            table.add_row("what", escape(card.description))
        if card.limits:
            table.add_row("limits", escape(card.limits))
        network = f"{card.architecture}, {card.parameters:,} parameters"
        if card.macs_per_megapixel:
            network += f", {card.macs_per_megapixel / 1e9:.0f} GMAC per megapixel"
        table.add_row("network", escape(network))
        table.add_row("file", escape(f"{path.stat().st_size / 1e6:.1f} MB, {_numbers(card)}"))
        table.add_row("licence", escape(card.licence))
        table.add_row("training data", escape(card.training_data))
        for name, speed in card.seconds_per_megapixel.items():
            table.add_row("speed", escape(f"{speed:.2f} s per megapixel ({name})"))
        for name, values in card.measured.items():
            given, restored = values["psnr_input"], values["psnr"]
            text = f"{restored:.2f} dB"
            if given < 99:
                text += f" from {given:.2f} ({restored - given:+z.2f})"
            table.add_row(escape(name), text)
        console.print(table)


def _numbers(card: ModelCard) -> str:
    return card.dtype + (", computes in int8" if card.arithmetic == "int8" else "")
