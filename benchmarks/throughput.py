"""Folders, archives and clips: `python benchmarks/throughput.py`.

How much of all cores a folder of photos keeps busy, how many megapixels a second come out of
`unblur run`, `unblur bulk` and Ray, start-up included, and how much of the engine's own speed is
left when a clip is decoded and encoded meanwhile. What is restored is drawn.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from unblur.demo import draw_scene
from unblur.hardware import cores, processor
from unblur.inference.deblurrer import Deblurrer

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]
SIDE = (816, 612)  # half a megapixel


def draw_photos(folder: Path, count: int) -> float:
    """Blurred photos that differ; returns their megapixels."""
    folder.mkdir()
    scene = Image.fromarray(draw_scene()).resize((1920, 1280), Image.Resampling.LANCZOS)
    rng = np.random.default_rng(0)
    for index in range(count):
        left = int(rng.integers(0, scene.width - SIDE[0]))
        top = int(rng.integers(0, scene.height - SIDE[1]))
        part = scene.crop((left, top, left + SIDE[0], top + SIDE[1]))
        part.filter(ImageFilter.GaussianBlur(1.2)).save(folder / f"{index:04}.jpg", quality=92)
    return count * SIDE[0] * SIDE[1] / 1e6


def draw_clip(path: Path, frames: int) -> float:
    """A pan over the scene at 720p; returns its megapixels."""
    import av

    scene = np.asarray(Image.fromarray(draw_scene()).resize((1920, 1280)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for index in range(frames):
            part = np.ascontiguousarray(scene[200:920, 4 * index : 4 * index + 1280])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))
    return frames * 1280 * 720 / 1e6


def measure(name: str, megapixels: float, *arguments: str) -> float:
    """Run a command; returns megapixels a second."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    result = subprocess.run([*UNBLUR, *arguments], capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        print(f"{name}: {result.stderr.strip().splitlines()[-1]}")
        return 0.0
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    busy = "" if "ray" in arguments else f", {100 * used / seconds / cores():.0f} % of all cores"
    print(f"{name}: {megapixels / seconds:.2f} MP/s{busy}", flush=True)
    return megapixels / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--runtime", default="onnxruntime")
    args = parser.parse_args()
    print(f"{processor()}, {args.runtime}")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        size = draw_photos(base / "photos", args.photos)
        source, options = str(base / "photos"), ["--runtime", args.runtime]
        run = ["run", source, "-o"]
        measure(
            "one after another", size, *run, str(base / "a"), "--threads", str(cores()), *options
        )
        measure("unblur run", size, *run, str(base / "b"), *options)
        measure("unblur bulk", size, "bulk", source, str(base / "c"), *options)
        measure(
            "the same on Ray", size, "bulk", source, str(base / "d"), "--engine", "ray", *options
        )
        clip = base / "clip.mp4"
        size = draw_clip(clip, args.frames)
        speed = measure("a clip of 720p", size, "run", str(clip), *options)
        frame = np.asarray(Image.fromarray(draw_scene()).resize((1280, 720)))
        deblurrer = Deblurrer("small", args.runtime)
        deblurrer.restore_pixels(frame)
        began = time.perf_counter()
        for _ in range(10):
            deblurrer.restore_pixels(frame)
        engine = 10 * 1280 * 720 / 1e6 / (time.perf_counter() - began)
        print(
            f"the engine alone: {engine:.2f} MP/s; the clip had {100 * speed / engine:.0f} % of it"
        )


if __name__ == "__main__":
    main()
