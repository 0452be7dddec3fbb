"""Time and memory of `unblur` on this machine: `python benchmarks/speed.py`.

Prints the start-up time, a 0.5 MP photo from shell to file, seconds per megapixel of every
installed runtime (in turns, medians, ratios), and the peak memory of a large photo.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unblur.demo import draw_scene, shaken
from unblur.hardware import processor
from unblur.imaging import Photo, write_photo
from unblur.inference import Deblurrer
from unblur.inference.runtimes import installed_runtimes

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]


def timed(command: list[str], runs: int) -> float:
    """Median wall seconds of a command, after one run that warms the file cache."""
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def peak_memory(command: list[str]) -> tuple[float, float]:
    """(peak resident MB, wall seconds) of a command, as the operating system counts them."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - began


def tiled_scene(megapixels: float) -> np.ndarray:
    """The blurred demonstration scene repeated up to a 3:2 photo of so many megapixels."""
    scene = shaken(draw_scene())
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(height * 1.5)
    repeats = (-(-height // scene.shape[0]), -(-width // scene.shape[1]), 1)
    return np.tile(scene, repeats)[:height, :width]


def load_engines(model: str, folder: Path) -> dict[str, Deblurrer]:
    """The model in every installed runtime; torch gets the same network with fresh weights."""
    engines = {}
    for runtime in installed_runtimes():
        source: str | Path = model
        if runtime == "torch":
            from unblur.models import create_model
            from unblur.models.checkpoint import save_checkpoint

            card = engines["onnxruntime"].card
            source = folder / "fresh.safetensors"
            network = create_model(card.architecture, **card.options)
            save_checkpoint(source, card.architecture, card.options, network)
        engines[runtime] = Deblurrer(source, runtime=runtime)
    return engines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small")
    parser.add_argument("--megapixels", type=float, default=2.0, help="photo for the runtimes")
    parser.add_argument("--large", type=float, default=50.0, help="photo for peak memory; 0: none")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the runtimes' seconds per MP here")
    args = parser.parse_args()
    print(processor())
    print(f"unblur --help                {timed([*UNBLUR, '--help'], args.runs):8.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small.jpg")
        write_photo(Photo(tiled_scene(0.5)), small)
        for runtime in installed_runtimes():
            if runtime == "torch":
                continue
            command = [*UNBLUR, "run", str(small), "--model", args.model, "--runtime", runtime]
            seconds = timed([*command, "-o", f"{folder}/out.jpg", "--overwrite"], args.runs)
            print(f"0.5 MP, shell to file, {runtime:14}{seconds:6.2f} s")

        if args.large:  # before this process grows: its size counts as its children's, too
            large = Path(folder, "large.jpg")
            write_photo(Photo(tiled_scene(args.large)), large)
            command = [
                *UNBLUR,
                "run",
                str(large),
                "--model",
                args.model,
                "--runtime",
                "onnxruntime",
            ]
            peak, seconds = peak_memory([*command, "-o", f"{folder}/large_out.jpg"])
            print(f"{args.large:.0f} MP photo: peak {peak:.0f} MB, {seconds / args.large:.2f} s/MP")

        photo = tiled_scene(args.megapixels)
        engines = load_engines(args.model, Path(folder))
        times: dict[str, list[float]] = {runtime: [] for runtime in engines}
        for turn in range(args.runs + 1):  # in turns, so that a slow minute hits all alike
            for runtime, engine in engines.items():
                began = time.perf_counter()
                engine.restore_pixels(photo)
                if turn:
                    times[runtime].append(time.perf_counter() - began)
        megapixels = photo.shape[0] * photo.shape[1] / 1e6
        per_megapixel = {r: statistics.median(t) / megapixels for r, t in times.items()}
        base = per_megapixel["onnxruntime"]
        for runtime, seconds in per_megapixel.items():
            print(
                f"{megapixels:.1f} MP in memory, {runtime:14}{seconds:10.2f} s/MP  "
                f"({seconds / base:.2f} × onnxruntime)"
            )
        if args.json:
            args.json.write_text(json.dumps({r: round(s, 3) for r, s in per_megapixel.items()}))


if __name__ == "__main__":
    main()
