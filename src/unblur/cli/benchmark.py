"""`unblur benchmark`: models, networks and runtimes side by side."""

from __future__ import annotations

import re
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli.errors import fail, network_errors_for_people
from unblur.cli.evaluate import (
    BlurOption,
    CountOption,
    DataOption,
    OverwriteOption,
    RootOption,
    SuiteOption,
    ThreadsOption,
    evaluation_errors_for_people,
    parse_models,
    parse_sets,
    report_failures,
)
from unblur.cli.networks import build_network
from unblur.cli.progress import progress_bar
from unblur.files import make_folder

if TYPE_CHECKING:
    from unblur.evaluation import Benchmark


def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="[NAME=]MODEL",
            help="A shipped model, an .onnx file or a checkpoint; repeatable. Default: all shipped "
            "models.",
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="NAME[:OPTION=VALUE,…]",
            help="An architecture with random weights, for its speed alone (needs torch); "
            "repeatable.",
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="onnxruntime, openvino, openvino-bf16 or torch; repeatable. Default: all that are "
            "installed.",
        ),
    ] = None,
    data: DataOption = None,
    blur: BlurOption = None,
    suite: SuiteOption = None,
    root: RootOption = Path(),
    count: CountOption = None,
    protocol: Annotated[str, typer.Option(help="As in `unblur evaluate`.")] = "full",
    megapixels: Annotated[
        float, typer.Option(min=0.01, max=100, help="Size of the photo that is restored.")
    ] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians are compared.")] = 5,
    device: Annotated[str, typer.Option(help="As in `unblur run`.")] = "auto",
    threads: ThreadsOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Also write benchmark.csv, benchmark.json and pareto.png here.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare the speed and quality of models, networks and runtimes.

    They take turns on the same photo, each turn in a process of its own, so that a busy machine
    slows all alike. Quality is measured where --data or --suite says on what: the mean gain over
    its sets, but for those whose inputs are sharp or hardly blurred.
    """
    # Only networks without weights need torch.
    people = network_errors_for_people() if network else nullcontext()
    with evaluation_errors_for_people(), people:
        from unblur.data import require_outside
        from unblur.evaluation import (
            BENCHMARK_FILE,
            EvaluationError,
            export_untrained,
            in_runtimes,
            open_set,
            parse_protocol,
            write_benchmark,
        )
        from unblur.evaluation import benchmark as run
        from unblur.inference import shipped_models
        from unblur.inference.runtimes import installed_runtimes

        if output is not None and (output / BENCHMARK_FILE).exists() and not overwrite:
            raise fail(f"{output / BENCHMARK_FILE}: exists; name another folder, or --overwrite", 1)
        runtimes = runtime or installed_runtimes()
        rules = parse_protocol(protocol)
        sets: list[Any] = []
        if data or suite:
            sets = [
                open_set(spec, root, rules.patches) for spec in parse_sets(data, blur, suite, count)
            ]
        texts = model or ([] if network else list(shipped_models()))
        candidates = in_runtimes(parse_models(texts, "auto", device, threads), runtimes)
        with tempfile.TemporaryDirectory() as temporary:
            specs = []
            for text in network or []:
                architecture, _, settings = text.partition(":")
                _, options, built = build_network(
                    # A comma inside of an option's list is not followed by another option.
                    architecture,
                    re.split(r",(?=\w+=)", settings) if settings else None,
                )
                specs += export_untrained(text, architecture, options, built, Path(temporary))
            candidates += in_runtimes(specs, runtimes, trained=False)
            if not candidates:
                raise fail("none of the models runs on a runtime that was named", 2)
            if output is not None:  # before minutes of measuring
                for each in sets:
                    require_outside(output, each.roots)
                make_folder(output, EvaluationError)
            with progress_bar("timing") as timing, progress_bar("measuring") as measuring:
                result = run(
                    candidates, sets, rules, megapixels=megapixels, rounds=rounds,
                    progress=timing, quality_progress=measuring,
                )  # fmt: skip
        written = write_benchmark(result, output) if output is not None else []
    _print(result)
    for path in written:
        typer.echo(f"{path}")
    if result.quality is not None:
        report_failures(result.quality)


def _print(result: Benchmark) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = result.table()
    gains = any(row["gain"] is not None for row in rows)
    table = Table(title=f"{result.megapixels:.1f} MP, medians", title_justify="left")
    table.add_column("model", overflow="fold")  # a network's options may be long
    columns = ["s/MP", "ratio", "peak MB", "M params", "file MB", *(["gain dB"] if gains else [])]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        values = [
            f"{row['seconds_per_megapixel']:.3f}",
            f"{row['ratio']:.2f}",
            "–" if row["peak_mib"] is None else f"{row['peak_mib'] * 2**20 / 1e6:.0f}",
            "–" if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f}",
            f"{row['file_mb']:.1f}",
        ]
        if gains:
            values.append("–" if row["gain"] is None else f"{row['gain']:+z.2f}")
        table.add_row(escape(row["model"]), *values)
    Console().print(table)
