"""What `unblur train` costs above a bare PyTorch loop: `python benchmarks/training.py`.

The same network, samples, loss and optimizer, in one process, alternating between the two; medians
over the repetitions. Metrics every 10 steps, as in the recipes; validation and checkpoints are left
out of both, as they are wanted, not overhead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from unblur.blur import parse_degradation
from unblur.data import Augmentation, Positions, Samples, open_dataset
from unblur.losses import WeightedLoss
from unblur.models import create_model
from unblur.training import read_recipe, train
from unblur.training.reports import Row

RECIPE = """
network: {{name: {network}}}
data: {{train: "sharp:{data}", blur: "gaussian:sigma=1.6", crop: 96, batch_size: 4, workers: 0,
        epoch_length: {length}, val_length: 1, jitter: 0.1}}
losses: {{charbonnier: 1.0}}
optimizer: {{name: adamw, lr: 2.0e-4, weight_decay: 1.0e-3}}
trainer: {{max_epochs: 1, validate_every: 99, pictures: 0, checkpoint_seconds: 1.0e+9,
           accelerator: cpu, gradient_clip: 1.0}}
"""
WARM = 10  # steps that are not timed


def ours(network: str, data: Path, steps: int) -> float:
    """Seconds of a step in `unblur train`, from the first rows of metrics to the last."""
    times: list[tuple[float, float]] = []

    def listen(row: Row) -> None:
        if "train/loss" in row:  # not the validation at the end
            times.append((row["step"], time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(RECIPE.format(network=network, data=data, length=4 * steps))
        train(read_recipe(path, ["--output", folder, "--tensorboard", "false"]), listeners=[listen])
    times = [(step, at) for step, at in times if step >= WARM]
    return (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])


def bare(network: str, data: Path, steps: int) -> float:
    """Seconds of a step in a loop of a dozen lines."""
    torch.manual_seed(42)
    model = create_model(network)
    loss = WeightedLoss({"charbonnier": 1.0})
    optimizer = torch.optim.AdamW(model.parameters(), 2e-4, weight_decay=1e-3)
    samples = Samples(
        open_dataset(f"sharp:{data}").pairs, parse_degradation("gaussian:sigma=1.6"),
        crop=96, augmentation=Augmentation(jitter=0.1), length=4 * steps,
    )  # fmt: skip
    loader = DataLoader(samples, 4, sampler=Positions(len(samples)))  # type: ignore[arg-type]
    began = 0.0
    for step, batch in enumerate(loader):
        if step == WARM:
            began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value, _ = loss(model(batch["blurred"]), batch["sharp"])
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return (time.perf_counter() - began) / (steps - WARM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data")) / "sharp/photos"
    parser.add_argument("--data", type=Path, default=default, help="sharp photos")
    parser.add_argument("--networks", nargs="+", default=["unet16", "res_unet"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    for network in args.networks:
        pairs = [
            (ours(network, args.data, args.steps), bare(network, args.data, args.steps))
            for _ in range(args.repetitions)
        ]
        first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(
            f"{network}: unblur train {1e3 * first:.1f} ms a step, bare loop {1e3 * second:.1f}, "
            f"ratio {ratio:.3f}"
        )


if __name__ == "__main__":
    main()
