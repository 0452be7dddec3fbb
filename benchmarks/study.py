"""Which architecture learns most in the same time: `python benchmarks/study.py -o STUDY`.

Every candidate is trained for the same minutes of the same machine, on the same photos and blur
(recipes/shipped_small.yaml): what one step of it takes is timed first, and its schedule fitted to
the time. Those that are trained already in STUDY are kept. Then all are measured with `unblur
benchmark` as docs/models.md says.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from unblur.inference.export import export_model
from unblur.models.checkpoint import load_checkpoint
from unblur.training import read_recipe, train
from unblur.training.recipe import overridden
from unblur.training.reports import read_metrics

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "shipped_small.yaml"
PROBE_STEPS, LEFT_OUT = 14, 4  # steps that are timed; the first ones warm up


def unshuffle(*widths: int, **more: Any) -> tuple[str, dict[str, Any]]:
    blocks = {"encoder_blocks": [1, 2, 2, 4], "decoder_blocks": [1, 2, 2]}
    return "unshuffle_unet", {"widths": list(widths), **blocks, **more}


def naf(width: int) -> tuple[str, dict[str, Any]]:
    return "nafnet", {"width": width, "encoder_blocks": [1, 1, 1, 8]}


# The norm-free blocks of the two coarsest levels are replaced by twice as many gated ones.
GATED = {"gated_levels": 2, "encoder_blocks": [1, 2, 4, 8], "decoder_blocks": [1, 2, 4]}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"light_unet {w}": ("light_unet", {"start_filters": w}) for w in (8, 16, 32)},
    **{f"late_fusion_unet {w}": ("late_fusion_unet", {"width": w}) for w in (8, 16, 32)},
    **{f"res_unet {w}": ("res_unet", {"width": w}) for w in (16, 32, 64)},
    **{f"unet16 {w}": ("unet16", {"width": w}) for w in (8, 16, 32)},
    **{f"rednet30 {w}": ("rednet30", {"width": w}) for w in (8, 16, 32)},
    **{f"nafnet {w}": naf(w) for w in (8, 16, 24)},
    "unshuffle 16": unshuffle(16, 32, 64, 96),
    "unshuffle 24": unshuffle(24, 48, 96, 128),
    "unshuffle 32": unshuffle(32, 64, 128, 192),
    "gated 16": unshuffle(16, 32, 64, 96, **GATED),
    "gated 24": unshuffle(24, 48, 96, 128, **GATED),
    "gated 32": unshuffle(32, 64, 128, 192, **GATED),
    "unshuffle 24, confidence": unshuffle(24, 48, 96, 128, confidence=True),
    "unshuffle 48-96-128 from 1/4": (
        "unshuffle_unet",
        {
            "widths": [48, 96, 128],
            "encoder_blocks": [3, 3, 4],
            "decoder_blocks": [3, 3],
            "factor": 4,
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of the study")
    parser.add_argument("--only", nargs="*", help="candidates; all by default")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training each")
    args = parser.parse_args()
    for name in args.only or CANDIDATES:
        file = args.output / f"{name}.onnx"
        if not file.exists():
            run_one(name, file, args.data, args.minutes)


def run_one(name: str, file: Path, data: Path, minutes: float) -> None:
    architecture, options = CANDIDATES[name]
    settings = {
        "name": name.replace(" ", "_"),
        "output": str(file.parent / "runs"),
        "network": {"name": architecture, "options": options, "channels_last": True},
        "data.root": str(data),
        "data.batch_size": 8,
        "data.stages": [],
        "data.workers": 0,
        "data.val_length": 1,
        "schedule.warmup": 20,
        "tensorboard": False,
        "trainer.max_epochs": 1,
        "trainer.ema": 0.99,
        "trainer.pictures": 0,
        "trainer.log_every": 1,
    }
    recipe = read_recipe(RECIPE)
    probe = {"trainer.max_steps": PROBE_STEPS, "data.epoch_length": 8 * PROBE_STEPS}
    folder = train(overridden(recipe, settings | probe))
    rows = [row for row in read_metrics(folder / "metrics.csv") if "samples_per_second" in row]
    seconds = [8 / row["samples_per_second"] for row in rows[LEFT_OUT:]]
    steps = int(60 * minutes / (sum(seconds) / len(seconds)))
    whole = {"data.epoch_length": 8 * steps, "trainer.log_every": 50, "data.val_length": 60}
    folder = train(overridden(recipe, settings | whole))
    architecture, options, network = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    export_model(network, file, name, architecture, options)
    print(f"{name}: {steps} steps, {file}", flush=True)


if __name__ == "__main__":
    main()
