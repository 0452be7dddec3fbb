"""Train a network, by default the shipped `small`, on blur made on the fly (see `--help`).

A plain loop on purpose: one process, a wall-clock budget, checkpoints that resume. It needs the
`train` extra and the folder of sharp photos and pairs that docs/data.md describes.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from unblur.blur import (
    add_noise,
    blur_photo,
    compress_jpeg,
    convolve,
    defocus_kernel,
    gaussian_kernel,
    shake_kernel,
)
from unblur.models import create_model

Pixels = NDArray[np.uint8]
REACH = 20  # pixels of context around a crop, so that kernels up to 41 px never see its border


def load(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def training_photos(data: Path) -> list[Pixels]:
    """Sharp photos and frames of the training sequences, decoded once."""
    paths: list[Path] = []
    for folder in ("sharp/bsds500/train", "sharp/bsds500/val", "sharp/photos", "sharp/urban100"):
        paths += sorted((data / folder).glob("*.jpg"))
    for folder in ("GOPR0477_11_00", "GOPR0384_11_02"):
        paths += sorted((data / "gopro/train" / folder / "sharp").glob("*.png"))
    paths += sorted((data / "reds/train/train_sharp/000").glob("*.png"))
    if not paths:
        raise SystemExit(f"no training photos under {data}: name the folder with --data")
    return [load(path) for path in paths]


def training_pairs(data: Path) -> list[tuple[Pixels, Pixels]]:
    """(blurred, sharp) frames of the training sequences, and averages of 240 fps frames."""
    pairs = []
    for folder in ("GOPR0477_11_00", "GOPR0384_11_02"):
        for path in sorted((data / "gopro/train" / folder / "blur").glob("*.png")):
            pairs.append((load(path), load(path.parent.parent / "sharp" / path.name)))
    for path in sorted((data / "reds/train/train_blur/000").glob("*.png")):
        pairs.append((load(path), load(data / "reds/train/train_sharp/000" / path.name)))
    frames = [load(p) for p in sorted((data / "gopro_240fps/GOPR0477_11_00").glob("*.png"))]
    for window in (3, 5, 7, 9):
        for start in range(0, len(frames) - window + 1, 2):
            mean = np.mean([f.astype(np.float32) for f in frames[start : start + window]], axis=0)
            pairs.append((np.rint(mean).astype(np.uint8), frames[start + window // 2]))
    return pairs


class BlurredCrops(IterableDataset):
    """An endless stream of (blurred, sharp) crops, 3×N×N float32 in [0, 1]."""

    def __init__(self, data: Path, crop: int, seed: int) -> None:
        self.photos, self.pairs = training_photos(data), training_pairs(data)
        self.crop, self.seed = crop, seed
        sizes = np.array([photo.shape[0] * photo.shape[1] for photo in self.photos], float)
        self.weights = np.sqrt(sizes) / np.sqrt(sizes).sum()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            blurred, sharp = self.real(rng) if rng.random() < 0.12 else self.synthetic(rng)
            turns, flip = int(rng.integers(4)), rng.random() < 0.5

            def tensor(
                image: NDArray[np.float32], turns: int = turns, flip: bool = flip
            ) -> torch.Tensor:
                image = np.rot90(image[:, ::-1] if flip else image, turns)
                return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

            yield tensor(blurred), tensor(sharp)

    def corner(self, rng: np.random.Generator, image: Pixels, side: int) -> tuple[int, int]:
        """The more textured of two random places: flat sky teaches nothing."""
        best, best_score = (0, 0), -1.0
        for _ in range(2):
            top = int(rng.integers(0, image.shape[0] - side + 1))
            left = int(rng.integers(0, image.shape[1] - side + 1))
            green = image[top : top + side : 2, left : left + side : 2, 1].astype(np.float32)
            score = float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green)).mean())
            if score > best_score:
                best, best_score = (top, left), score
        return best

    def real(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        blurred, sharp = self.pairs[int(rng.integers(len(self.pairs)))]
        top, left = self.corner(rng, sharp, self.crop)
        window = np.s_[top : top + self.crop, left : left + self.crop]
        return blurred[window].astype(np.float32) / 255, sharp[window].astype(np.float32) / 255

    def patch(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A sharp patch with REACH pixels around; large photos are often shrunk, which sharpens."""
        photo = self.photos[int(rng.choice(len(self.photos), p=self.weights))]
        side = self.crop + 2 * REACH
        largest = min(min(photo.shape[:2]) / side, 2.5)
        scale = rng.uniform(1, largest) if photo.shape[1] > 600 and rng.random() < 0.6 else 1.0
        source = int(side * scale)
        top, left = self.corner(rng, photo, source)
        patch = photo[top : top + source, left : left + source]
        if source != side:
            patch = np.asarray(
                Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC)
            )
        return patch.astype(np.float32) / 255

    def synthetic(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        patch = self.patch(rng)
        kind = rng.choice(["none", "shake", "gaussian", "defocus"], p=[0.15, 0.47, 0.22, 0.16])
        inner = np.s_[REACH:-REACH, REACH:-REACH]
        if kind == "none":
            # What is not blurred must come back as it is, its noise and compression included.
            if rng.random() < 0.5:
                patch = self.record(rng, patch)
            return patch[inner], patch[inner]
        if kind == "gaussian":
            kernel = gaussian_kernel(rng.uniform(0.2, 3.0))
        elif kind == "defocus":
            kernel = defocus_kernel(rng.uniform(0.6, 5.0))
        else:
            extent = float(np.exp(rng.uniform(np.log(2), np.log(30))))
            kernel = shake_kernel(rng, extent, exposure=10 ** rng.uniform(-1, 0))
            if rng.random() < 0.5:  # a lens and a demosaic soften every real path
                soft = gaussian_kernel(rng.uniform(0.3, 0.8))
                reach = soft.shape[0] // 2
                kernel = convolve(np.pad(kernel, reach)[:, :, None], soft)[:, :, 0]
        if kernel.shape[0] > 2 * REACH + 1:  # a very excentric path: keep its middle
            cut = kernel.shape[0] // 2 - REACH
            kernel = np.maximum(kernel[cut:-cut, cut:-cut], 0)
            kernel /= kernel.sum()
        if rng.random() < 0.75:
            blurred = blur_photo(patch, kernel)
        else:
            blurred = np.clip(convolve(patch, kernel), 0, 1)
        return self.record(rng, blurred)[inner], patch[inner]

    def record(self, rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Noise, JPEG and the rounding to 8 bits that every recorded photo has been through."""
        if rng.random() < 0.7:
            image = add_noise(image, rng, rng.exponential(1.2) / 255, rng.exponential(1e-5))
        if rng.random() < 0.3:
            return compress_jpeg(image, int(rng.integers(75, 99)))
        return np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / 255


def psnr_loss(restored: torch.Tensor, sharp: torch.Tensor, floor: float) -> torch.Tensor:
    """Mean over images of −PSNR in dB. `floor` is added to the mean squared error, so that images
    that are nearly right already do not drown the others."""
    error = (restored.float() - sharp).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(error + floor)).mean()


def save(path: Path, state: dict) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    )
    parser.add_argument("--out", type=Path, default=Path("experiments/small"))
    parser.add_argument(
        "--minutes", type=float, default=90, help="wall-clock budget, over all runs"
    )
    parser.add_argument("--network", default="unshuffle_unet")
    parser.add_argument("--options", default="{}", help="the network's options, as JSON")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--late-crop", type=int, default=192, help="crop in the last third")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    options = json.loads(args.options)
    model = create_model(args.network, **options).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
    )
    step, spent = 0, 0.0
    checkpoint = args.out / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"resumed at step {step}, {spent / 60:.1f} minutes spent", flush=True)

    def batches(crop: int, batch: int) -> Iterator[list[torch.Tensor]]:
        data = BlurredCrops(args.data, crop, seed=args.seed * 1_000_003 + step)
        return iter(DataLoader(data, batch, num_workers=args.workers, prefetch_factor=4))

    budget = args.minutes * 60
    late = spent / budget > 0.66
    late_batch = max(1, round(args.batch * args.crop**2 / args.late_crop**2))
    stream = batches(args.late_crop, late_batch) if late else batches(args.crop, args.batch)
    log = csv.writer((args.out / "metrics.csv").open("a", buffering=1))
    gains, began, saved = [], time.monotonic(), time.monotonic()
    while spent < budget:
        share = spent / budget
        if share > 0.66 and not late:
            late, stream = True, batches(args.late_crop, late_batch)
        rate = (
            args.learning_rate * min(1, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * share))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        blurred, sharp = next(stream)
        blurred = blurred.contiguous(memory_format=torch.channels_last)
        # bf16 halves the time of a step here; the last tenth runs in float32 like inference does.
        with torch.autocast("cpu", torch.bfloat16, enabled=share < 0.9):
            restored = model(blurred)
        # First learn to deblur (35 dB counts as right), then to leave sharp photos alone (48 dB).
        floor = 3e-4 * (1.5e-5 / 3e-4) ** share
        loss = psnr_loss(restored, sharp, floor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 30.0)
        optimizer.step()
        step += 1
        decay = min(0.999, step / (step + 10))
        with torch.no_grad():
            for target, source in zip(average.parameters(), model.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
            gains.append(-loss.item() + psnr_loss(blurred, sharp, floor).item())
        now = time.monotonic()
        spent, began = spent + now - began, now
        if step % 100 == 0:
            gain = float(np.mean(gains))
            gains = []
            log.writerow([step, round(spent, 1), f"{rate:.3g}", f"{gain:.4f}"])
            if step % 500 == 0:
                print(
                    f"step {step}  {spent / 60:.1f} min  lr {rate:.2e}  gain {gain:+.3f} dB",
                    flush=True,
                )
        if now - saved > 120 or spent >= budget:
            saved = now
            save(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "spent": spent,
                },
            )
    save(
        args.out / "model.pt",
        {
            "architecture": args.network,
            "options": options,
            "state_dict": average.state_dict(),
        },
    )
    (args.out / "summary.json").write_text(
        json.dumps({"steps": step, "minutes": round(spent / 60, 1)})
    )


if __name__ == "__main__":
    main()
