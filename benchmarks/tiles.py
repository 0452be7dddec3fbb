"""How far a photo restored in tiles differs from one restored in one piece.

`python benchmarks/tiles.py PHOTO --model small --tile 576`. The photo is blurred by defocus first,
so that the model has something to do, unless `--as-is`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unblur.blur import blur_photo, defocus_kernel
from unblur.imaging import read_photo
from unblur.inference import Deblurrer
from unblur.inference.runtimes import Runtime
from unblur.padding import padded_length


class OwnStatistics:
    """A runtime that only looks at each tile itself, as other tilers do."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.device, self.card = runtime.name, runtime.device, runtime.card

    def run(
        self, batch: NDArray[np.float32], *_: object
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        return self._runtime.run(batch)

    def survey(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._runtime.survey(batch)


def report(label: str, tiled: NDArray[np.float32], whole: NDArray[np.float32]) -> None:
    difference = np.abs(tiled - whole) * 255
    within = np.quantile(difference, 0.999)
    print(
        f"{label:24} of 255: mean {difference.mean():.3f}  99.9 % within {within:.2f}  "
        f"max {difference.max():.1f}  more than 1: {(difference > 1).mean():.3%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--tile", type=int, help="default: the card's")
    parser.add_argument(
        "--crop", type=int, default=10_000, help="use at most so many pixels a side"
    )
    parser.add_argument("--as-is", action="store_true", help="do not blur the photo")
    args = parser.parse_args()
    pixels = read_photo(args.photo).pixels[: args.crop, : args.crop]
    photo = pixels.astype(np.float32) / np.float32(np.iinfo(str(pixels.dtype)).max)
    if not args.as_is:
        photo = blur_photo(photo, defocus_kernel(3))
    height, width = photo.shape[:2]
    deblurrer = Deblurrer(args.model, tile=args.tile)
    card = deblurrer.card
    side = padded_length(max(height, width), card.size_multiple, card.min_size)
    whole = Deblurrer(args.model, tile=side).restore_pixels(photo)
    print(
        f"{args.photo.name} {width}×{height}, tiles of {deblurrer.tile}, "
        f"overlap {card.overlap}, {card.statistics} statistics; "
        f"the model changes it by {np.abs(whole - photo).mean() * 255:.2f} on average"
    )
    report("in tiles", deblurrer.restore_pixels(photo), whole)
    if card.statistics or card.survey:
        deblurrer._runtime = OwnStatistics(deblurrer._runtime)
        report("tiles that know nothing of others", deblurrer.restore_pixels(photo), whole)


if __name__ == "__main__":
    main()
