"""`unblur summary`: what a network consists of and costs."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from unblur.cli.errors import network_errors_for_people
from unblur.cli.networks import NetworkArgument, SetOption, as_file, build_network


def summary(
    network: NetworkArgument,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what a network consists of and costs.

    Sections, parameters, multiply-accumulates per megapixel, receptive field.
    """
    with network_errors_for_people():
        from unblur.models import RestorationModel
        from unblur.models.analysis import separable_cost, summarize

        name, options, model = build_network(as_file(network), settings)
        result, separable = summarize(model), separable_cost(model)
    if as_json:
        values = dataclasses.asdict(result) | {"network": name, "options": options}
        values["separable"] = dataclasses.asdict(separable) if separable else None
        typer.echo(json.dumps(values, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    table = Table(title=f"{name}({shown})", title_justify="left")
    table.add_column("section")
    table.add_column("operation", overflow="fold")
    for title in ("channels", "scale", "parameters", "GMAC/MP"):
        table.add_column(title, justify="right")
    for section in result.sections:
        scale = f"1/{round(1 / section.scale)}" if section.scale else ""
        table.add_row(
            section.name,
            section.operation,
            str(section.channels),
            scale,
            f"{section.parameters:,}",
            f"{section.macs_per_pixel / 1e3:.2f}",
        )
    table.add_section()
    table.add_row(
        "total", "", "", "", f"{result.parameters:,}", f"{result.macs_per_pixel / 1e3:.2f}"
    )
    console.print(table)
    if result.running_statistics:
        total = result.parameters + result.running_statistics
        console.print(f"with BatchNorm's running statistics, as Keras counts: {total:,}")
    if result.receptive_field:
        drafts = ", of each smaller size that it drafts as many" if model.draft else ""
        side = result.receptive_field
        console.print(f"receptive field: {side}×{side} pixels{drafts}")
    elif result.receptive_field is None and isinstance(model, RestorationModel):
        console.print("receptive field: the whole image")
    if separable:
        console.print(
            "its separable convolutions: "
            f"{separable.separable_parameters:,} parameters, "
            f"{separable.separable_macs_per_pixel / 1e3:.2f} GMAC/MP; "
            "as standard 3×3 convolutions: "
            f"{separable.standard_parameters:,} "
            f"({separable.standard_parameters / separable.separable_parameters:.1f} ×), "
            f"{separable.standard_macs_per_pixel / 1e3:.2f} GMAC/MP "
            f"({separable.standard_macs_per_pixel / separable.separable_macs_per_pixel:.1f} ×)"
        )
