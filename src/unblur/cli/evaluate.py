"""`unblur evaluate`: models measured on data sets, with a report to look at."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur.cli.data.arguments import BLUR_HELP, data_errors_for_people, parse_pair
from unblur.cli.errors import errors_for_people, fail
from unblur.cli.progress import progress_bar

if TYPE_CHECKING:
    from unblur.evaluation import Evaluation, ModelSpec, Result, SetSpec

ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="[NAME=]MODEL",
        help="A shipped model, an .onnx file, a checkpoint, or a baseline: unsharp, wiener, "
        "richardson-lucy (both told the true kernel), blind-richardson-lucy, displaced (the sharp "
        "image, moved to where the blurred one's light is); repeatable. Default: small.",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="[NAME=]DATA",
        help="layout:path, as in `unblur data check`; repeatable.",
    ),
]
BlurOption = Annotated[
    list[str] | None,
    typer.Option(
        "--blur",
        metavar="BLUR",
        help="Of images without a blurred partner, each makes a set; repeatable. " + BLUR_HELP,
    ),
]
SuiteOption = Annotated[
    Path | None, typer.Option(metavar="FILE.yaml", help="A file that lists sets.")
]
CountOption = Annotated[
    int | None, typer.Option(min=1, help="At most so many images of a set, evenly spread.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Processor threads. Default: all cores.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]
RootOption = Annotated[Path, typer.Option(help="What relative paths of data start from.")]


@contextmanager
def evaluation_errors_for_people() -> Iterator[None]:
    """Turn the errors that tell a user what to do into one line."""
    for module in ("scipy", "skimage", "matplotlib", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise fail(f"this needs {module}: pip install 'unblur[evaluate]'", 1)
    from unblur.evaluation import EvaluationError
    from unblur.registry import ConfigError

    try:
        with data_errors_for_people(), errors_for_people():
            yield
    except EvaluationError as error:
        raise fail(str(error), 1) from None
    except ConfigError as error:
        raise fail(str(error), 2) from None


def parse_models(
    texts: list[str] | None, runtime: str, device: str, threads: int | None
) -> list[ModelSpec]:
    """[NAME=]MODEL → specs."""
    from unblur.evaluation import ModelSpec

    specs = []
    for text in texts or []:
        name, model = split_name(text)
        specs.append(ModelSpec(model, runtime=runtime, device=device, threads=threads, name=name))
    return specs


def split_name(text: str) -> tuple[str, str]:
    """NAME=VALUE in two; a path that holds an = has no name."""
    name, equals, value = text.partition("=")
    return (name, value) if equals and not set(name) & set("/\\:") else ("", text)


def parse_sets(
    data: list[str] | None,
    blur: list[str] | None,
    suite: Path | None,
    count: int | None,
    **settings: object,
) -> list[SetSpec]:
    """The sets of --data under each --blur, and those of a suite, of at most `count` images."""
    from unblur.evaluation import SetSpec, read_suite

    sets = [] if suite is None else read_suite(suite)
    given = {k: v for k, v in settings.items() if v is not None and v is not False and v != ()}
    for each in data or []:
        name, spec = split_name(each)
        for one in blur or [None]:  # type: ignore[list-item]
            named = f"{name}, {one}" if name and len(blur or []) > 1 else name or None
            sets.append(SetSpec(spec, named, blur=one, **given))  # type: ignore[arg-type]
    if sets and not data and (blur or given):
        names = ", ".join(["blur"] * bool(blur) + list(given))
        raise fail(f"{names}: for --data; a suite says such things of each of its sets", 2)
    if not sets:
        raise fail("name what to evaluate on: --data layout:path, or --suite FILE.yaml", 2)
    if count is None:
        return sets
    return [replace(spec, count=min(count, spec.count or count)) for spec in sets]


def print_summary(evaluation: Evaluation) -> None:
    """The means of each set, and what a reader must know of them."""
    from unblur.evaluation.evaluate import input_of

    width = max(len(model.label) for model in evaluation.models)
    typer.echo(f"protocol {evaluation.protocol.name}")
    for data in evaluation.sets:
        results = evaluation.of_set(data.name)
        given = input_of(results)
        known = "" if given is None else f", input {given['psnr_input']:.2f} dB"
        typer.echo(f"\n{data.name}: {len(data.cases)} images{known}")
        for result in results:
            typer.echo(f"  {result.model.label:{width}}  {_measures(result)}")
    for result in evaluation.results:
        if result.leak is not None and result.leak.sequences:
            typer.secho(
                f"LEAK: {result.model.label} was trained on {len(result.leak.sequences)} of the "
                f"{result.leak.val_sequences} sequences of {result.data.name}",
                err=True,
                fg=typer.colors.YELLOW,
            )


def _measures(result: Result) -> str:
    mean = result.mean
    if "psnr" not in mean:
        return "not applicable" if mean["skipped"] else "failed"
    words = [f"{mean['psnr']:.2f} dB ({mean['gain']:+z.2f}, worst {mean['worst_gain']:+z.2f})"]
    if mean["worse"]:
        words.append(f"{mean['worse']} of {mean['clearly_blurred']} worse")
    if "ssim" in mean:
        words.append(f"SSIM {mean['ssim']:.4f}")
    if mean["seconds_per_megapixel"] is not None:
        words.append(f"{mean['seconds_per_megapixel']:.2f} s/MP")
    if mean["count"] < len(result.data.cases):
        words.append(f"on {mean['count']} of {len(result.data.cases)} images")
    return "  ".join(words)


def report_failures(evaluation: Evaluation) -> None:
    """Say what failed, and end with an exit code that tells."""
    lines = [f"{data.name}: {problem}" for data in evaluation.sets for problem in data.problems]
    lines += [
        f"{result.model.label} on {result.data.name}, {row['name']}: {row['error']}"
        for result in evaluation.results
        for row in result.failed
    ]
    for line in lines[:10]:
        typer.secho(f"failed: {line}", err=True, fg=typer.colors.RED)
    if len(lines) > 10:
        typer.secho(f"… and {len(lines) - 10} more", err=True, fg=typer.colors.RED)
    if lines:
        raise typer.Exit(1)


def evaluate(
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder for the results.")],
    model: ModelOption = None,
    restored: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FOLDER",
            help="Images restored elsewhere, named as in the data; repeatable.",
        ),
    ] = None,
    data: DataOption = None,
    blur: BlurOption = None,
    suite: SuiteOption = None,
    root: RootOption = Path(),
    each: Annotated[
        bool,
        typer.Option(
            "--each", help="Every alternative of --blur, such as each kernel, on every image."
        ),
    ] = False,
    subset: Annotated[str | None, typer.Option(help="Only this subset, such as test.")] = None,
    sequence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this sequence; repeatable."),
    ] = None,
    split: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Only the validation of a split.")
    ] = None,
    reblur: Annotated[
        bool, typer.Option("--reblur", help="Blur the sharp images of pairs too.")
    ] = False,
    resize: Annotated[str | None, typer.Option(metavar="HxW", help="First resize to this.")] = None,
    count: CountOption = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the blur. Default: 42.", show_default=False)
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="full, center-crop:256 or patches:3x4, and after a + any of float, y, border:4, "
            "volume, shift:4; docs/measuring.md says what they mean."
        ),
    ] = "full",
    metrics: Annotated[
        str, typer.Option(help="Of psnr, ssim, ms_ssim, mse, mae, logcosh, lpips.")
    ] = "psnr,ssim,ms_ssim,mse,mae,logcosh",
    lpips_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="torchvision's VGG16, for lpips.")
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="auto, onnxruntime, openvino, openvino-bf16 or torch.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="As in `unblur run`.")] = "auto",
    threads: ThreadsOption = None,
    best: Annotated[
        bool, typer.Option("--best", help="Each model once more, as `unblur run --best` restores.")
    ] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep the restored images.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure models on data sets, beside classical methods.

    Writes metrics.json, metrics.csv and report.html, which opens without a network. Interrupted,
    the same command goes on. Ends with exit code 1 when an image could not be measured.
    """
    with evaluation_errors_for_people():
        from unblur.evaluation import BASELINES, METRICS, ModelSpec, open_set, parse_protocol
        from unblur.evaluation import evaluate as run
        from unblur.evaluation.report import REPORT_FILE, write_report
        from unblur.registry import unknown

        names = [name.strip() for name in metrics.split(",") if name.strip()]
        for name in names:
            if name not in METRICS:
                raise unknown("metric", name, METRICS)
        if "psnr" not in names:
            raise fail("--metrics: psnr is needed, the report is built on it", 2)
        rules = parse_protocol(protocol)
        texts = model or (None if restored else ["small"])
        models = parse_models(texts, runtime, device, threads)
        if best:
            networks = [spec for spec in models if spec.model not in BASELINES]
            if not networks:
                raise fail("--best: name a model that it can restore with", 2)
            models += [replace(spec, best=True) for spec in networks]
        for text in restored or []:
            name, path = split_name(text)
            models.append(ModelSpec(path, restored=True, name=name))
        specs = parse_sets(
            data, blur, suite, count, each=each, reblur=reblur, subset=subset,
            sequences=tuple(sequence or ()),
            split=None if split is None else str(split.expanduser().absolute()),
            resize=parse_pair(resize, "--resize", "256x448"), seed=seed,
        )  # fmt: skip
        sets = [open_set(spec, root, rules.patches) for spec in specs]
        with progress_bar("evaluating") as progress:
            results = run(
                models, sets, rules, metrics=names, folder=output, overwrite=overwrite, save=save,
                pictures=True, lpips_weights=lpips_weights, progress=progress,
                report=lambda evaluation: write_report(evaluation, output),
            )  # fmt: skip
    print_summary(results)
    typer.echo(f"{output / REPORT_FILE}")
    report_failures(results)
