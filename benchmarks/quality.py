"""PSNR of a model on the held-out images of docs/data.md: `python benchmarks/quality.py --help`.

Protocol: whole images, clamped, rounded to 8 bits, RGB, no border cropped, mean of per-image PSNR.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.blur import add_noise, blur_photo, convolve, defocus_kernel, gaussian_kernel
from unblur.demo import psnr
from unblur.inference import Deblurrer

Pixels = NDArray[np.uint8]
Pairs = Iterator[tuple[str, Pixels, Pixels]]


def load(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def eight_bit(image: NDArray[np.float32]) -> Pixels:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def bsds(data: Path, kernels: dict[str, NDArray], noise: float, linear: bool) -> Pairs:
    """Every test photo of BSDS500 under every kernel; the noise is always the same."""
    for index, path in enumerate(sorted((data / "sharp/bsds500/test").glob("*.jpg"))):
        sharp = load(path)
        photo = sharp.astype(np.float32) / 255
        for number, (name, kernel) in enumerate(kernels.items()):
            rng = np.random.default_rng([index, number])
            blurred = blur_photo(photo, kernel) if linear else convolve(photo, kernel)
            yield name, eight_bit(add_noise(blurred, rng, noise)), sharp


def frames(blurred: Path, sharp: Path) -> Pairs:
    for path in sorted(blurred.glob("*.png")):
        yield path.stem, load(path), load(sharp / path.name)


def sets(data: Path) -> dict[str, Pairs]:
    measured = {p.stem: np.load(p) for p in sorted((data / "kernels").glob("*.npy"))}

    def gaussian(size: int, sigma: float) -> dict[str, NDArray]:
        return {f"{size}x{size}": gaussian_kernel(sigma, size)}

    def sharp() -> Pairs:
        for path in sorted((data / "sharp/bsds500/test").glob("*.jpg")):
            yield path.stem, load(path), load(path)

    gopro, reds = data / "gopro/train/GOPR0374_11_00", data / "reds/train"
    return {
        "BSDS500 test × 12 kernels, noise 1/255": bsds(data, measured, 1 / 255, linear=True),
        "BSDS500 test, Gaussian 3×3 σ0.3": bsds(data, gaussian(3, 0.3), 0, linear=False),
        "BSDS500 test, Gaussian 7×7 σ1": bsds(data, gaussian(7, 1.0), 0, linear=False),
        "BSDS500 test, Gaussian 11×11 σ1.6": bsds(data, gaussian(11, 1.6), 0, linear=False),
        "BSDS500 test, defocus radius 3": bsds(data, {"disc": defocus_kernel(3)}, 0, linear=True),
        "GoPro GOPR0374_11_00": frames(gopro / "blur", gopro / "sharp"),
        "REDS 001": frames(reds / "train_blur/001", reds / "train_sharp/001"),
        "BSDS500 test, sharp (to itself)": sharp(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="small", help="shipped name or model file")
    default = Path(os.environ.get("UNBLUR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--json", type=Path, help="also write the means here, as a card has them")
    parser.add_argument("--per-kernel", action="store_true")
    args = parser.parse_args()
    if not args.data.is_dir():
        raise SystemExit(f"{args.data}: no such folder; name it with --data or UNBLUR_DATA")

    deblurrer = Deblurrer(args.model, runtime="onnxruntime")
    means: dict[str, dict[str, float]] = {}
    print(f"{'set':42}{'input':>8}{'restored':>10}{'gain':>8}{'worst':>8}{'images':>8}")
    for name, pairs in sets(args.data).items():
        rows: dict[str, list[tuple[float, float]]] = {}
        for part, blurred, sharp in pairs:
            restored = deblurrer.restore_pixels(blurred)
            rows.setdefault(part, []).append((psnr(blurred, sharp), psnr(restored, sharp)))
        values = np.array([value for part in rows.values() for value in part])
        given, restored_mean = values.mean(axis=0)
        worst = (values[:, 1] - values[:, 0]).min()
        line = f"{given:8.2f}{restored_mean:10.2f}{restored_mean - given:+8.2f}{worst:+8.2f}"
        print(f"{name:42}{line}{len(values):8}", flush=True)
        if args.per_kernel and 1 < len(rows) < len(values):
            for part, part_values in rows.items():
                given_, restored_ = np.mean(part_values, axis=0)
                print(f"  {part:40}{given_:8.2f}{restored_:10.2f}{restored_ - given_:+8.2f}")
        means[name] = {"psnr_input": round(given, 2), "psnr": round(restored_mean, 2)}
    if args.json:
        args.json.write_text(json.dumps(means, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
