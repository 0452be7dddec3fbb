"""Every recipe, quickly, on the images of docs/data.md: `python benchmarks/recipes.py -o RUNS`.

Trains what is not trained yet in RUNS and prints a table of all that is, as docs/results.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from unblur.training import read_recipe, train

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
GOPRO = ["--data.train", "gopro:gopro", "--data.split.kind", "sequence", "--data.split.seed", "4"]
REDS = ["--data.train", "reds:reds"]
# The blurrier of the two sequences validates: the other one's patches have 31 to 33 dB, more than
# these networks come to in minutes, and more than they were published with.
BLURRIER = [*REDS, "--data.split.seed", "1"]
# The hardest of the three kernels: on the mildest the input is at 67 dB.
FRAMES = [
    *REDS,
    "--data.split.frames",
    "[1, 2, 3]",
    "--data.val_blur",
    "gaussian:size=11,sigma=1.6",
]
IMAGE = ["--data.train", "image:sharp/photos/div2k-0853.jpg", "--losses.perceptual", "0"]
MIX = ["--data.train", "[{data: 'gopro:gopro'}, {data: 'reds:reds'}]"]
# The published smaller one of two sizes, which fits into the time of a quick run.
FEW_BLOCKS = [
    *["--network.options.num_blocks", "5", "--data.batch_size", "8"],
    *["--data.epoch_length", "4000", "--trainer.max_steps", "1000"],
]
# Its normalisation spoils a copy of the input by as much as batches differ from one another.
STEADY = ["--data.batch_size", "32", "--optimizer.lr", "1e-4"]
# Recipe → (what to override here, the published figure, on its own full data).
RUNS: dict[str, tuple[list[str], str]] = {
    "gopro_light_unet": (GOPRO, "31.15 crop, 29.57 full-res (V3)"),
    "gopro_light_unet_v1": (GOPRO, "27.50"),
    "gopro_light_unet_v2": (GOPRO, "28.03"),
    "gopro_light_unet_v4": ([*GOPRO[:-1], "6"], "27.21"),
    "gopro_light_unet_no_norm": (GOPRO, "~26.0"),
    "gopro_standard_unet": (GOPRO, ""),
    "frames_late_fusion": (FRAMES, "32.35 (+5.58) on 11×11 σ1.6"),
    "frames_plain_cnn": (FRAMES, ""),
    "frames_plain_resnet": (FRAMES, ""),
    "frames_plain_unet": (FRAMES, ""),
    "one_image_deblur_net": (IMAGE, ""),
    "mixed_res_unet": (MIX, ""),
    "cifar10_resnet16": ([], "29.09, SSIM 0.9034"),
    "cifar10_unet16": ([], "29.32, SSIM 0.9001"),
    "cifar10_rednet30": ([], "33.52, SSIM 0.9258"),
    "cifar10_ms_wgan": (FEW_BLOCKS, "31.49, SSIM 0.9054"),
    "cifar10_rednet30_wgan": ([], "31.98, SSIM 0.9012"),
    "reds_resnet16": ([*BLURRIER, *STEADY], "29.49, SSIM 0.8554"),
    "reds_unet16": (REDS, "30.41, SSIM 0.8646"),
    "reds_rednet30": (REDS, "31.98, SSIM 0.8976"),
    "reds_ms_wgan": ([*BLURRIER, *FEW_BLOCKS], "27.11, SSIM 0.8031"),
    "reds_rednet30_wgan": (BLURRIER, ""),
    "photo_small": (["--data.train", "sharp:sharp"], ""),
}


def line(name: str, summary: dict, published: str) -> str:
    def number(key: str, digits: int) -> str:
        value = summary.get(key)
        return "–" if value is None else f"{value:.{digits}f}"

    images = f"{summary['train_images']} / {summary['val_images']}"
    return (
        f"| `{name}` | {images} | {summary['steps']} | {summary['seconds'] / 60:.1f} "
        f"| {number('psnr_input', 2)} | {number('best_psnr', 2)} "
        f"| {number('ssim_input', 3)} | {number('ssim', 3)} | {published or '–'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--only", nargs="*", help="recipes; all by default")
    parser.add_argument("--print", action="store_true", help="only print what is there")
    args, overrides = parser.parse_known_args()
    for name in [] if args.print else args.only or RUNS:
        if list(args.output.glob(f"{name}-quick/*/summary.json")):
            continue
        settings = ["--data.root", str(args.data), "--output", str(args.output), *RUNS[name][0]]
        train(read_recipe(RECIPES / f"{name}.yaml", [*settings, *overrides], quickly=True))
    columns = ["recipe", "images train / val", "steps", "minutes", "input dB", "restored dB"]
    columns += ["input SSIM", "restored SSIM", "published dB"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name, (_, published) in RUNS.items():
        found = sorted(args.output.glob(f"{name}-quick/*/summary.json"))
        if found:
            print(line(name, json.loads(found[-1].read_text(encoding="utf-8")), published))


if __name__ == "__main__":
    main()
