"""Which architecture learns most in the same time:

    taskset -c 0 python benchmarks/study.py -o STUDY

Every candidate is trained for the same minutes of the same machine (of one core by Linux's
`taskset`), on the same photos and blur (recipes/plain_small.yaml), and measured on four photos of
each set of benchmarks/suite.yaml. What a step of each takes is timed first, in turns: the quarter
of the steps that are fastest, so that other work on the machine hardly counts. It gets as many
steps as fit into its minutes, however long they take. What is timed, trained or measured already in
STUDY is kept; what is timed later is scaled by the first one, timed again beside it. Other minutes,
another seed or optimizer need a folder of their own.

`--compare`, on a quiet machine, then times all that are in STUDY, and the shipped models, in both
runtimes, and writes study.csv and study.png there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unblur.evaluation import (
    ModelSpec,
    benchmark,
    evaluate,
    in_runtimes,
    open_set,
    read_suite,
)
from unblur.evaluation.evaluate import HARDLY_BLURRED
from unblur.evaluation.plots import time_axis
from unblur.files import atomic_path, sha256_of, write_json, write_table
from unblur.inference import shipped_models
from unblur.inference.export import export_model
from unblur.models.checkpoint import load_checkpoint
from unblur.training import read_recipe, train
from unblur.training.config import Recipe
from unblur.training.optimizers import OPTIMIZERS
from unblur.training.recipe import overridden
from unblur.training.reports import read_metrics

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "plain_small.yaml"
SUITE = Path(__file__).with_name("suite.yaml")
COUNT = 4  # images of each set, under each of its blurs
RUNTIMES = ("onnxruntime", "openvino")
MARKERS = "osv"
WARM_STEPS = 200
ROUNDS, PROBE_STEPS, LEFT_OUT = 2, 14, 4  # steps that are timed, without the first ones of each
# In so few steps more is learned by it than by the loss of the recipe.
CHARBONNIER: Any = {"charbonnier": {"weight": 1.0, "epsilon": 1e-3}}
USUAL: dict[str, Any] = {"data.batch_size": 8, "losses": CHARBONNIER}
# It sees kernels in windows of 256 pixels, which it learns by losses of its own, and spectra are
# small differences of large numbers: not in bf16, and at half the rate.
OWN: dict[str, dict[str, Any]] = {
    "wiener_unet": {
        "data.crop": 256,
        "data.batch_size": 4,
        "losses": {**CHARBONNIER, "kernels": 0.5, "filters": 0.2},
        "optimizer.lr": 5e-4,
        "trainer.precision": "32",
    }
}


def unshuffle(
    *widths: int, encoder: list[int], decoder: list[int], **more: Any
) -> tuple[str, dict[str, Any]]:
    blocks = {"encoder_blocks": encoder, "decoder_blocks": decoder}
    return "unshuffle_unet", {"widths": list(widths), **blocks, **more}


def wiener(width: int) -> tuple[str, dict[str, Any]]:
    """What is shipped since version 4 of `base`, without drafts: crops are too small for them."""
    edges = {"edge_widths": [2 * width, 3 * width, 4 * width, 6 * width], "maps": 2, "head": 64}
    _, refiner = unshuffle(width, 2 * width, 4 * width, 6 * width, **SHIPPED)
    del refiner["modulated"]  # it always is
    return "wiener_unet", {**refiner, **edges, "gammas": [1.0]}


def naf(width: int) -> tuple[str, dict[str, Any]]:
    return "nafnet", {"width": width, "encoder_blocks": [1, 1, 1, 8]}


FLAT: Any = {"encoder": [1, 2, 2, 4], "decoder": [1, 2, 2]}
FINE: Any = {"encoder": [2, 2, 2, 4], "decoder": [4, 2, 2]}
# The norm-free blocks of the two coarsest levels are replaced by twice as many gated ones.
GATED: Any = {"encoder": [1, 2, 4, 8], "decoder": [1, 2, 4], "gated_levels": 2}
# What is shipped, at 32.
SHIPPED: Any = {"encoder": [2, 2, 2, 4], "decoder": [2, 2, 2], "modulated": True}
# The same with one more level, above as in rednet30, or below.
ABOVE: Any = {"encoder": [1, 2, 2, 2, 4], "decoder": [2, 2, 2, 2], "modulated": True, "factor": 1}
BELOW: Any = {"encoder": [2, 2, 2, 2, 4], "decoder": [2, 2, 2, 2], "modulated": True}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"shipped {w}": unshuffle(w, 2 * w, 4 * w, 6 * w, **SHIPPED) for w in (16, 24, 32)},
    **{f"wiener {w}": wiener(w) for w in (16, 24, 32)},
    **{f"unshuffle {w}": unshuffle(w, 2 * w, 4 * w, 6 * w, **FLAT) for w in (16, 24, 32)},
    **{f"gated {w}": unshuffle(w, 2 * w, 4 * w, 6 * w, **GATED) for w in (16, 24, 32)},
    "shipped 24, from 1-1": unshuffle(8, 24, 48, 96, 144, **ABOVE),
    "shipped 24, to 1-32": unshuffle(24, 48, 96, 144, 192, **BELOW),
    "unshuffle 24, modulated": unshuffle(24, 48, 96, 144, modulated=True, **FLAT),
    "unshuffle 24, fine": unshuffle(24, 48, 96, 144, **FINE),
    "unshuffle 24, fine, modulated": unshuffle(24, 48, 96, 144, modulated=True, **FINE),
    "unshuffle 24, confidence": unshuffle(24, 48, 96, 144, confidence=True, **FLAT),
    "from 1-4 48": unshuffle(48, 96, 128, encoder=[3, 3, 4], decoder=[3, 3], factor=4),
    **{f"nafnet {w}": naf(w) for w in (8, 16, 24)},
    **{f"light_unet {w}": ("light_unet", {"start_filters": w}) for w in (8, 16, 32)},
    **{f"late_fusion_unet {w}": ("late_fusion_unet", {"width": w}) for w in (8, 16, 32)},
    **{f"res_unet {w}": ("res_unet", {"width": w}) for w in (16, 32, 64)},
    **{f"unet16 {w}": ("unet16", {"width": w}) for w in (8, 16, 32)},
    **{f"rednet30 {w}": ("rednet30", {"width": w}) for w in (8, 16, 32)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of the study")
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, help="all by default")
    parser.add_argument("--minutes", type=float, default=6.0, help="of training each")
    parser.add_argument("--seed", type=int, default=42, help="of weights and samples")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--compare", action="store_true", help="nothing is trained: table and plot")
    parser.add_argument("--rounds", type=int, default=2, help="of timing")
    args = parser.parse_args()
    names = args.only or list(CANDIDATES)
    files = {name: args.output / f"{name}.onnx" for name in names}
    if args.compare:
        trained = {name: file for name, file in files.items() if file.exists()}
        if not trained:
            parser.error(f"{args.output} holds none of the candidates")
        compare(trained | shipped_models(), args.output, args.data, args.rounds)
        return
    terms = {"minutes": args.minutes, "seed": args.seed, "optimizer": args.optimizer}
    kept = args.output / "terms.json"
    known = json.loads(kept.read_text()) if kept.exists() else terms
    if known != terms:
        of = ", ".join(f"{name} {value}" for name, value in known.items())
        parser.error(f"{args.output} is of {of}; name another folder")
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(kept, terms)
    alike = {"seed": args.seed, "optimizer.name": args.optimizer}
    seconds = step_seconds(names, args.output, args.data, alike)
    for name, file in files.items():
        if not file.exists():
            steps = round(60 * args.minutes / seconds[name])
            print(f"{name}: {1e3 * seconds[name]:.0f} ms a step, {steps} steps", flush=True)
            run_one(name, file, args.data, steps, alike)
        print(name, gains(name, file, args.output, args.data), flush=True)


def step_seconds(
    names: list[str], output: Path, data: Path, alike: dict[str, Any]
) -> dict[str, float]:
    """What a step of each candidate takes: a quarter of them, over rounds in turns, is faster."""
    file = output / "step_seconds.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    untimed = [name for name in names if name not in known]
    if not untimed:
        return known
    first = next(iter(known), untimed[0])
    # Decoded photos are kept for all.
    train(candidate("unshuffle 16", output, data, WARM_STEPS, alike))
    times: dict[str, list[float]] = {name: [] for name in dict.fromkeys([first, *untimed])}
    for _ in range(ROUNDS):
        for name in times:
            probe = alike | {"trainer.log_every": 1}
            folder = train(candidate(name, output, data, PROBE_STEPS, probe))
            rows = [r for r in read_metrics(folder / "metrics.csv") if "samples_per_second" in r]
            batch = settings_of(name)["data.batch_size"]
            times[name] += [batch / row["samples_per_second"] for row in rows[LEFT_OUT:]]
    measured = {name: statistics.quantiles(values)[0] for name, values in times.items()}
    scale = known.get(first, measured[first]) / measured[first]  # other hours, other speeds
    known |= {name: scale * measured[name] for name in untimed}
    write_json(file, known)
    return known


def settings_of(name: str) -> dict[str, Any]:
    """Of its recipe, those that not all candidates share."""
    return OWN.get(CANDIDATES[name][0], USUAL)


def candidate(name: str, output: Path, data: Path, steps: int, more: dict[str, Any]) -> Recipe:
    architecture, options = CANDIDATES[name]
    own = settings_of(name)
    settings = own | {
        "name": name.replace(" ", "_"),
        "output": str(output / "runs"),
        "network": {"name": architecture, "options": options, "channels_last": True},
        "data.root": str(data),
        "data.cache": str(output / "cache"),
        "data.stages": [],
        "optimizer.full_rate_inputs": None,
        "trainer.gradient_clip": 5.0,
        "data.workers": 0,
        "data.epoch_length": own["data.batch_size"] * steps,
        "data.val_length": 1,
        "schedule.warmup": 20,
        "tensorboard": False,
        "trainer.max_epochs": 1,
        "trainer.ema": 0.99,
        "trainer.pictures": 0,
        "trainer.log_every": 50,
    }
    return overridden(read_recipe(RECIPE), settings | more)


def run_one(name: str, file: Path, data: Path, steps: int, alike: dict[str, Any]) -> None:
    folder = train(candidate(name, file.parent, data, steps, alike | {"data.val_length": 60}))
    architecture, options, network = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    export_model(network, file, name, architecture, options)
    print(f"{name}: {file}", flush=True)


def gains(name: str, model: Path, folder: Path, data: Path) -> dict[str, float]:
    """dB gained on each set whose images are blurred, and their mean."""
    folder = folder / "measured" / f"{name} {sha256_of(model)[:8]}"
    if not (folder / "metrics.json").exists():
        sets = [open_set(replace(spec, count=COUNT), data) for spec in read_suite(SUITE)]
        spec = ModelSpec(str(model), name=name, runtime="onnxruntime")
        evaluate([spec], sets, metrics=("psnr",), folder=folder)
    results = json.loads((folder / "metrics.json").read_text())["results"]
    blurred = [each for each in results if each["mean"]["psnr_input"] <= HARDLY_BLURRED]
    by_set = {each["data"]: each["mean"]["psnr"] - each["mean"]["psnr_input"] for each in blurred}
    return {"gain": statistics.mean(by_set.values())} | by_set


def compare(models: dict[str, Path], folder: Path, data: Path, rounds: int) -> None:
    """Write the table and the plot."""
    gained = {name: gains(name, path, folder, data) for name, path in models.items()}
    specs = [ModelSpec(str(path), name=name) for name, path in models.items()]
    timed = benchmark(in_runtimes(specs, RUNTIMES), megapixels=1.0, rounds=rounds).table()
    rows = []
    for name in models:
        row: dict[str, Any] = {"name": name}
        for runtime in RUNTIMES:
            found = next(each for each in timed if each["model"] == f"{name}, {runtime}")
            row["parameters"] = found["parameters"]
            row[f"s/MP, {runtime}"] = found["seconds_per_megapixel"]
            row[f"peak MiB, {runtime}"] = found["peak_mib"]
        rows.append(row | gained[name])
    write_table(folder / "study.csv", rows)
    draw(rows, folder / "study.png")


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Gain against time in each runtime; the widths of a family are joined."""
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        family, _, width = str(row["name"]).rpartition(" ")
        families.setdefault(family if width.isdigit() else row["name"], []).append(row)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    plots = figure.subplots(1, len(RUNTIMES), sharey=True)
    for axes, runtime in zip(plots, RUNTIMES, strict=True):
        for index, (family, members) in enumerate(families.items()):
            xs, ys = zip(*sorted((m[f"s/MP, {runtime}"], m["gain"]) for m in members), strict=True)
            marker = "*" if family in shipped_models() else MARKERS[index // 10]
            axes.plot(xs, ys, marker=marker, label=family, color=f"C{index % 10}")
        axes.set_title(runtime)
        time_axis(axes, [row[f"s/MP, {runtime}"] for row in rows])
        axes.grid(alpha=0.3)
    plots[0].set_ylabel("mean gain over the blurred sets (dB)")
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    main()
