"""Models, networks and runtimes side by side in one run: seconds, memory, and what they gain."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unblur.demo import draw_scene, shaken
from unblur.evaluation.evaluate import Evaluation, Result, evaluate, require_different
from unblur.evaluation.plots import colours, pareto
from unblur.evaluation.protocol import Protocol
from unblur.evaluation.restorers import ModelSpec, open_restorer
from unblur.evaluation.sets import Example, TestSet
from unblur.files import write_json, write_table
from unblur.hardware import processor
from unblur.inference.models import find_model
from unblur.inference.runtimes.choice import is_checkpoint

BENCHMARK_FILE, _TABLE_FILE, _PICTURE_FILE = "benchmark.json", "benchmark.csv", "pareto.png"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """A model in a runtime. trained: a network with random weights has a speed, but no quality."""

    spec: ModelSpec
    trained: bool = True

    @property
    def label(self) -> str:
        return self.spec.label


@dataclass
class Measured:
    """What was measured of one candidate.

    seconds: of each round, on the whole photo. peak_bytes: of its largest process, 0 where that is
    not known. gain: dB over the blurred input by set, where sets were given.
    """

    candidate: Candidate
    file_bytes: int
    runtime: str = ""
    parameters: int | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    gain: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Benchmark:
    """All candidates, the fastest first. megapixels: of the photo that was restored."""

    megapixels: float
    rows: list[Measured]
    quality: Evaluation | None = None

    def table(self) -> list[dict[str, Any]]:
        """A mapping for each candidate; `ratio` is its time over the fastest one's.

        `gain` is the mean over the sets; None for who could not restore one that others could.
        """
        fastest = self.rows[0].median
        sets = max(len(row.gain) for row in self.rows)
        return [
            {
                "model": row.candidate.label,
                "runtime": row.runtime,
                "seconds_per_megapixel": row.median / self.megapixels,
                "fastest": min(row.seconds) / self.megapixels,
                "slowest": max(row.seconds) / self.megapixels,
                "ratio": row.median / fastest,
                "peak_mib": round(row.peak_bytes / 2**20) or None,
                "parameters": row.parameters,
                "file_mb": row.file_bytes / 1e6,
                "gain": statistics.mean(row.gain.values())
                if row.gain and len(row.gain) == sets
                else None,
                **{f"gain, {name}": gain for name, gain in row.gain.items()},
            }
            for row in self.rows
        ]


def in_runtimes(
    specs: Sequence[ModelSpec], runtimes: Sequence[str], trained: bool = True
) -> list[Candidate]:
    """Every model in every runtime that can run it: checkpoints in torch, model files elsewhere."""
    candidates = []
    for spec in specs:
        checkpoint = is_checkpoint(find_model(spec.model))
        for runtime in runtimes:
            if (runtime == "torch") == checkpoint:
                name = spec.label if len(runtimes) == 1 else f"{spec.label}, {runtime}"
                candidates.append(Candidate(replace(spec, runtime=runtime, name=name), trained))
    return candidates


def benchmark(
    candidates: Sequence[Candidate],
    sets: Sequence[TestSet] = (),
    protocol: Protocol | None = None,
    *,
    megapixels: float = 2.0,
    rounds: int = 5,
    progress: Progress | None = None,
    quality_progress: Progress | None = None,
) -> Benchmark:
    """Time each candidate `rounds` times on one photo, and restore every set's images once.

    The candidates take turns, in an order that moves on by one each round, so that whatever else
    the machine does slows all of them; medians are compared. Each turn has a process of its own,
    which restores the photo once before it is timed: memory holds one candidate at a time.
    Raises EvaluationError, ModelError.
    """
    require_different([each.label for each in candidates], "models")
    if sets:
        require_different([data.name for data in sets], "sets")
    photo = _photo(megapixels)
    example = Example(photo, photo)
    rows = [Measured(each, find_model(each.spec.model).stat().st_size) for each in candidates]
    for turn in range(rounds):
        for step in range(len(rows)):
            _time(rows[(turn + step) % len(rows)], example)
            if progress:
                progress(turn * len(rows) + step + 1, rounds * len(rows))
    results: list[Result] = []
    trained = [row for row in rows if row.candidate.trained] if sets else []
    for number, row in enumerate(trained):

        def advance(done: int, total: int, before: int = number) -> None:
            if quality_progress:
                quality_progress(before * total + done, len(trained) * total)

        measured = evaluate(
            [row.candidate.spec], sets, protocol, metrics=("psnr",), progress=advance
        ).results
        row.gain = {one.data.name: one.gain for one in measured if one.gain is not None}
        results += measured
    quality = Evaluation(protocol or Protocol(), ("psnr",), results) if results else None
    pixels = photo.shape[0] * photo.shape[1] / 1e6
    return Benchmark(pixels, sorted(rows, key=lambda row: row.median), quality)


def _photo(megapixels: float) -> np.ndarray:
    """The demonstration's shaken scene in the size that is asked for."""
    scene = shaken(draw_scene())
    height, width = scene.shape[:2]
    factor = (megapixels * 1e6 / (height * width)) ** 0.5
    size = max(64, round(width * factor)), max(64, round(height * factor))
    return np.asarray(Image.fromarray(scene).resize(size, Image.Resampling.LANCZOS))


def _time(row: Measured, example: Example) -> None:
    with open_restorer(row.candidate.spec) as restorer:
        row.runtime = restorer.about.runtime
        row.parameters = restorer.about.card.get("parameters")
        restorer.restore(example)  # warms up
        restored = restorer.restore(example)
    row.peak_bytes = max(row.peak_bytes, restored.peak_bytes or 0)
    if restored.seconds is not None:
        row.seconds.append(restored.seconds)


def write_benchmark(result: Benchmark, folder: Path) -> list[Path]:
    """benchmark.csv, benchmark.json and, with two or more qualities, pareto.png; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = result.table()
    paths = [folder / _TABLE_FILE, folder / BENCHMARK_FILE]
    write_table(paths[0], table)
    write_json(
        paths[1],
        {"hardware": processor(), "megapixels": result.megapixels, "results": table},
    )
    points = [
        (str(row["model"]), row["seconds_per_megapixel"], row["gain"])
        for row in table
        if row["gain"] is not None
    ]
    if len(points) > 1:
        palette = colours([name for name, _, _ in points])
        pareto(points, palette, processor()).write(folder / _PICTURE_FILE)
        paths.append(folder / _PICTURE_FILE)
    return paths


def export_untrained(
    label: str, architecture: str, options: dict[str, Any], network: Any, folder: Path
) -> list[ModelSpec]:
    """A network with random weights as a model file and a checkpoint, to measure its speed."""
    from unblur.inference.export import export_model
    from unblur.models.checkpoint import save_checkpoint

    stem = folder / f"{len(list(folder.iterdir()))}"
    model, checkpoint = stem.with_suffix(".onnx"), stem.with_suffix(".safetensors")
    export_model(network, model, label, architecture, options)
    save_checkpoint(checkpoint, architecture, options, network)
    return [ModelSpec(str(path), name=label) for path in (model, checkpoint)]
