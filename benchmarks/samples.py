"""How many training samples a second the data pipeline makes: `python benchmarks/samples.py`.

Crops of 256×256. First the `photo` preset on decoded photos, on one core and on two, with the
share of each stage; then pairs from 1280×720 PNG frames, decoded every time, cached, and from
shards. Each process is kept on a core of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import tempfile
import time
from pathlib import Path

from unblur.blur import parse_degradation
from unblur.data import (
    Augmentation,
    Dataset,
    ImageCache,
    Samples,
    open_dataset,
    write_shards,
)

# What the time is counted under: the functions that do it, none called by another.
STAGES = {
    "convolution": ("convolve",),
    "noise": ("standard_normal",),
    "compression": ("compress",),
    "resizing": ("resize",),
    "light ⇄ code values": ("srgb_to_linear", "linear_to_srgb"),
    "drawing kernels": ("draw",),
    "8 bits ⇄ floats": ("to_float", "to_eight_bit", "_planes"),
    "decoding": ("load",),
}


def photos(data: Path) -> list:
    return [
        *open_dataset(f"sharp:{data / 'sharp/photos'}").pairs,
        *open_dataset(f"sharp:{data / 'sharp/urban100'}").pairs,
    ]


def warm(samples: Samples, count: int) -> None:
    for position in range(count):
        samples[position]


def worker(samples: Samples, core: int, seconds: float, begin: object, counts: object) -> None:
    os.sched_setaffinity(0, {core})
    warm(samples, len(samples.pairs))  # decodes, where there is a cache
    begin.wait()  # type: ignore[attr-defined]
    end, position = time.perf_counter() + seconds, core * 100_000
    while time.perf_counter() < end:
        samples[position]
        position += 1
    counts.put(position - core * 100_000)  # type: ignore[attr-defined]


def rate(samples: Samples, cores: list[int], seconds: float) -> float:
    """Samples per second of one process on each of the cores."""
    context = multiprocessing.get_context("fork")
    begin, counts = context.Barrier(len(cores)), context.Queue()
    jobs = [
        context.Process(target=worker, args=(samples, core, seconds, begin, counts))
        for core in cores
    ]
    for job in jobs:
        job.start()
    total = sum(counts.get() for _ in jobs)
    for job in jobs:
        job.join()
    return total / seconds


def stages(samples: Samples, count: int) -> dict[str, float]:
    """The share of each stage in the time of a sample."""
    warm(samples, len(samples.pairs))
    profile = cProfile.Profile()
    profile.enable()
    for position in range(1000, 1000 + count):
        samples[position]
    profile.disable()
    stats = pstats.Stats(profile)
    times: dict[str, float] = {}
    for (path, _, name), (_, _, own, cumulated, _) in stats.stats.items():  # type: ignore[attr-defined]
        for stage, functions in STAGES.items():
            if name in functions and "unblur" in path and not path.endswith("parameters.py"):
                # `draw` of a step that contains steps calls itself: its own time is what counts.
                value = own if name == "draw" else cumulated
                times[stage] = times.get(stage, 0.0) + value
            elif stage == "drawing kernels" and name.endswith("_kernel") and "unblur" in path:
                times[stage] = times.get(stage, 0.0) + own
    total = stats.total_tt  # type: ignore[attr-defined]
    times["the rest"] = total - sum(times.values())
    return {stage: value / total for stage, value in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="the folder of docs/data.md")
    parser.add_argument("--blur", default="photo", help="preset or spec")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]

    samples = Samples(
        photos(args.data), parse_degradation(args.blur), augmentation=Augmentation(jitter=0.1)
    )
    one, two = (rate(samples, cores[:n], args.seconds) for n in (1, 2))
    print(f"{args.blur}, 256×256, from decoded photos: one core {one:.0f} /s, two {two:.0f} /s")
    shares = sorted(stages(samples, 300).items(), key=lambda item: -item[1])
    print("  " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares))
    print(f"  slowest stage: {shares[0][0]}")

    pairs = open_dataset(f"gopro:{args.data / 'gopro'}")
    print(f"pairs of {len(pairs.pairs)} PNG frames of 1280×720, 256×256, one core:")
    with tempfile.TemporaryDirectory() as folder:
        write_shards(pairs, Path(folder) / "shards")
        shards = open_dataset(Path(folder) / "shards")
        ways: list[tuple[str, Dataset, ImageCache]] = [
            ("decoded every time", pairs, ImageCache(limit=0)),
            ("shards, decoded every time", shards, ImageCache(limit=0)),
            ("cache in memory", pairs, ImageCache()),
            ("cache of memory-mapped files", pairs, ImageCache(Path(folder) / "cache")),
            ("shards, cached likewise", shards, ImageCache(Path(folder) / "cache")),
        ]
        slowest = 0.0
        for name, dataset, cache in ways:
            some = Samples(dataset.pairs, augmentation=Augmentation(), cache=cache)
            speed = rate(some, cores[:1], args.seconds / 2)
            slowest = slowest or speed
            print(f"  {name:30}{speed:8.0f} /s  {speed / slowest:6.1f} ×")


if __name__ == "__main__":
    main()
