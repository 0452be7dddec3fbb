"""An evaluation as one HTML file that opens without a network, and its pictures as PNG."""

from __future__ import annotations

import base64
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

from unblur import __version__
from unblur.evaluation.baselines import BASELINES
from unblur.evaluation.evaluate import (
    CLEARLY_BLURRED,
    WORSE,
    Evaluation,
    Result,
    input_of,
    summarize,
)
from unblur.evaluation.pictures import Shown
from unblur.evaluation.plots import Plot, colours, gain_against_input, histogram, pareto
from unblur.evaluation.protocol import Protocol
from unblur.evaluation.restorers import About
from unblur.evaluation.statistics import DRAWS, compare
from unblur.files import atomic_path, file_name, printable
from unblur.hardware import processor

REPORT_FILE = "report.html"
_MOST_LINES = 60  # of a table by sequence or blur
_MOST_FAILURES = 12  # that are listed one by one
_TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(evaluation: Evaluation, folder: Path, title: str = "unblur evaluation") -> Path:
    """Write report.html, and plots/ and cases/ with its pictures; returns the report's path."""
    from jinja2 import Environment, StrictUndefined

    palette = colours([model.label for model in evaluation.models])
    sets = [_set(evaluation.of_set(data.name), palette) for data in evaluation.sets]
    front = _pareto(evaluation, palette)
    models = [_model(evaluation, model) for model in evaluation.models]
    values = {
        "title": title,
        "protocol": evaluation.protocol.name,
        "explanation": explain(evaluation.protocol),
        "environment": _environment(),
        "sets": sets,
        "models": models,
        "has_ssim": "ssim" in evaluation.metrics,
        "worse": _worse(evaluation),
        "worse_by": WORSE,
        "clearly_blurred": CLEARLY_BLURRED,
        "leaks": [
            f"{result.model.label} on {result.data.name}: {len(result.leak.sequences)} of "
            f"{result.leak.val_sequences} sequences, {result.leak.images} of "
            f"{result.leak.val_images} images"
            for result in evaluation.results
            if result.leak is not None and result.leak.sequences
        ],
        "failures": list(_failures(evaluation)),
        "pareto": front,
        "draws": f"{DRAWS:,}",
    }
    # Names of files and models come from anywhere: everything is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(values)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REPORT_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(printable(page), encoding="utf-8")
    _write_pictures(evaluation, sets, front, folder)
    return path


def explain(protocol: Protocol) -> str:
    """The protocol in a sentence or two."""
    what = "Whole images"
    if protocol.crop is not None:
        what = f"Centre crops of {protocol.crop}×{protocol.crop} pixels"
    if protocol.patches is not None:
        rows, columns = protocol.patches
        what = f"Images in {rows}×{columns} patches, each restored alone"
    values = "rounded to 8 bits" if protocol.rounded else "not rounded"
    space = "luma (BT.601)" if protocol.luma else "RGB"
    border = f"{protocol.border} pixels of border left out" if protocol.border else "no border cut"
    text = f"{what}, clamped, {values}, {space}, {border}; means of per-image values. "
    ssim = "per channel" if protocol.ssim == "channels" else "volumetric, as MATLAB's of RGB"
    text += f"SSIM: Gaussian window of 11 pixels, σ 1.5, {ssim}."
    if protocol.shift:
        text += f" Input and output are each compared at their best shift up to {protocol.shift}."
    return text


def _set(results: Sequence[Result], palette: dict[str, str]) -> dict[str, Any]:
    data = results[0].data
    means = [result.mean for result in results]
    given = input_of(results)
    # Means over fewer images cannot be compared with the others, nor can those that are told
    # what the others have to guess.
    whole = [
        result.mean
        for result in results
        if "psnr" in result.mean
        and result.mean["count"] == len(data.cases)
        and not (result.model.kind == "baseline" and BASELINES[result.model.fingerprint].is_told)
    ]
    best = max((mean["psnr"] for mean in whole), default=None)
    drawn = [result for result in results if any("psnr" in row for row in result.measured)]
    plots = [histogram(result, palette[result.model.label]) for result in drawn]
    if drawn:
        plots.append(gain_against_input(drawn, palette))
    differences = [compare(first, second) for first, second in combinations(drawn, 2)]
    return {
        "name": data.name,
        "images": len(data.cases),
        "sequences": len(data.sequences),
        "psnr_input": given["psnr_input"] if given else None,
        "ssim_input": given.get("ssim_input") if given else None,
        "identical_input": max((mean["identical_input"] for mean in means), default=0),
        "cells": [
            {
                "mean": mean,
                "best": len(whole) > 1 and mean in whole and mean["psnr"] == best,
                "leak": result.leak is not None and bool(result.leak.sequences),
            }
            for result, mean in zip(results, means, strict=True)
        ],
        "plots": plots,
        "groups": [
            table
            for key, what in (("blur", "blur"), ("sequence", "sequence"))
            if (table := _groups(results, key, what)) is not None
        ],
        "differences": [d for d in differences if d is not None],
        "clustered": any(d is not None and d.clusters for d in differences),
        "cases": [
            {"model": result.model.label, "shown": [_case(shown) for shown in result.shown]}
            for result in results
            if result.shown
        ],
    }


def _worse(evaluation: Evaluation) -> list[tuple[str, list[tuple[int, int]]]]:
    """For each set with blurred images, and all: of each model, (made worse, images)."""
    rows = []
    for data in evaluation.sets:
        means = [result.mean for result in evaluation.of_set(data.name)]
        counts = [(mean.get("worse", 0), mean.get("clearly_blurred", 0)) for mean in means]
        if any(images for _, images in counts):
            rows.append((data.name, counts))
    if len(rows) > 1:
        of_models = zip(*(counts for _, counts in rows), strict=True)
        totals = [(sum(w for w, _ in each), sum(n for _, n in each)) for each in of_models]
        rows.append(("all", totals))
    return rows


def _groups(results: Sequence[Result], key: str, what: str) -> dict[str, Any] | None:
    """A table with a line for each blur or sequence; None where it would say nothing."""
    names = sorted({row[key] for result in results for row in result.rows})
    images = max(len(result.rows) for result in results)
    if not 1 < len(names) <= _MOST_LINES or len(names) == images:
        return None
    rows = []
    for name in names:
        means = [summarize([r for r in result.rows if r[key] == name]) for result in results]
        known = max(means, key=lambda mean: mean["count"])
        rows.append({
            "name": name or "unknown",
            "count": known["count"],
            "psnr_input": known.get("psnr_input"),
            "cells": [mean if "psnr" in mean else None for mean in means],
        })  # fmt: skip
    return {"what": what, "rows": rows}


def _case(shown: Shown) -> dict[str, Any]:
    return {
        "kind": shown.kind,
        "row": shown.row,
        "before": _embedded(shown.before),
        "after": _embedded(shown.after),
        "panels": [
            (title, _embedded(image))
            for title, (_, image) in zip(shown.titles(), shown.encoded_panels, strict=True)
        ],
    }


def _embedded(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def _failures(evaluation: Evaluation) -> Sequence[str]:
    lines = [f"{data.name}: {problem}" for data in evaluation.sets for problem in data.problems]
    for result in evaluation.results:
        lines += [
            f"{result.model.label} on {result.data.name}, {row['name']}: {row['error']}"
            for row in result.failed
        ]
    rest = len(lines) - _MOST_FAILURES
    return lines if rest <= 0 else [*lines[:_MOST_FAILURES], f"… and {rest} more, in metrics.csv"]


def _speed(evaluation: Evaluation, model: About) -> float | None:
    rows = [row for r in evaluation.results if r.model is model for row in r.measured]
    speed = summarize(rows)["seconds_per_megapixel"] if rows else None
    return None if speed is None else float(speed)


def _pareto(evaluation: Evaluation, palette: dict[str, str]) -> Plot | None:
    """The mean gain over the blurred sets against time, for models that measured all of them."""
    gains = {
        model.label: [result.gain for result in evaluation.results if result.model is model]
        for model in evaluation.models
    }
    sets = max(sum(gain is not None for gain in each) for each in gains.values())
    points = []
    for model in evaluation.models:
        speed = _speed(evaluation, model)
        known = [gain for gain in gains[model.label] if gain is not None]
        if speed is not None and known and len(known) == sets:
            points.append((model.label, speed, sum(known) / sets))
    if len(points) < 2:
        return None
    return pareto(points, palette, f"mean over {sets} blurred {'set' if sets == 1 else 'sets'}")


def _model(evaluation: Evaluation, model: About) -> dict[str, Any]:
    peaks = [r.peak_bytes for r in evaluation.results if r.model is model and r.peak_bytes]
    facts: list[tuple[str, str]] = [("kind", model.kind)]
    card = model.card
    for key, name in (
        ("description", "what"), ("architecture", "network"), ("licence", "licence"),
        ("training_data", "training data"),
    ):  # fmt: skip
        if card.get(key) and card[key] != "unknown":
            facts.append((name, str(card[key])))
    if card.get("parameters"):
        facts.append(("parameters", f"{card['parameters']:,}"))
    for key, name in (
        ("recipe", "recipe"), ("steps", "steps"), ("val_psnr", "validation PSNR"),
        ("split", "split"),
    ):  # fmt: skip
        if model.training.get(key) is not None:
            facts.append((name, str(model.training[key])))
    if model.kind in ("model", "checkpoint"):
        known = model.trained_on
        facts.append((
            "trained on",
            "not known: whether it has seen these images cannot be told"
            if known is None
            else f"{len(known)} sequences, compared with each set by name",
        ))  # fmt: skip
        if model.best:
            facts.append(("restored", "in 8 orientations, the mean of them (--best)"))
        facts.append(("SHA-256", model.fingerprint))
    return {
        "label": model.label,
        "speed": _speed(evaluation, model),
        "peak": round(max(peaks) / 2**20) if peaks else None,
        "runtime": model.runtime,
        "facts": facts,
    }


def _environment() -> dict[str, Any]:
    names = ("numpy", "pillow", "scipy", "onnxruntime", "openvino", "torch")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "unblur": __version__,
        "command": shlex.join(["unblur", *sys.argv[1:]]),
        "facts": [
            ("hardware", processor()),
            ("system", f"{platform.system()}, Python {platform.python_version()}"),
            ("versions", ", ".join(versions)),
        ],
    }


def _write_pictures(
    evaluation: Evaluation, sets: Sequence[dict[str, Any]], front: Plot | None, folder: Path
) -> None:
    plots = [plot for data in sets for plot in data["plots"]] + ([front] if front else [])
    (folder / "plots").mkdir(exist_ok=True)
    for plot in plots:
        plot.write(folder / "plots" / f"{file_name(plot.title)}.png")
    for result in evaluation.results:
        for shown in result.shown:
            name = f"{result.data.name}-{result.model.label}-{shown.kind}"
            (folder / "cases").mkdir(exist_ok=True)
            with atomic_path(folder / "cases" / f"{file_name(name)}.png") as temporary:
                shown.strip().save(temporary, "PNG")
