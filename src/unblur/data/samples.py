"""Pairs → samples for a network: crops, augmentation, blur made on the fly.

Every random choice follows from (seed, epoch, index), so workers, ranks and resumed runs see the
same samples, however many there are of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur.blur import Degradation, Parameter, spoil
from unblur.blur.parameters import bounds, draw
from unblur.data.cache import ImageCache
from unblur.data.dataset import Pair
from unblur.data.errors import DataError
from unblur.data.randomness import generator
from unblur.data.sources import Pixels

ValueRange = Literal["unit", "symmetric"]
_PROBED = 200  # images whose headers are read before training starts


class Sample(TypedDict):
    """What a network gets: blurred and sharp 3×H×W float32, and where they are from."""

    blurred: NDArray[np.float32]
    sharp: NDArray[np.float32]
    name: str


@dataclass(frozen=True)
class Augmentation:
    """What is done to training samples, identically to blurred and sharp; never in validation.

    flips: mirror horizontally and vertically, each with probability ½.
    rotations: turn by 0, 90, 180 or 270°; crops that are not square only by 0 or 180°.
    jitter: brightness, contrast and saturation change by factors 1 ± jitter.
    scale: the photo is first reduced by a factor drawn from this, at most to the size of the crop.
    """

    flips: bool = True
    rotations: bool = True
    jitter: float = 0.0
    scale: Parameter = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < 1:
            raise DataError(f"jitter must be at least 0 and below 1, got {self.jitter:g}")
        low, high = bounds(self.scale)
        if not 0 < low <= high <= 1:
            raise DataError(f"scale must lie above 0 and at most at 1, got {low:g} to {high:g}")


class Samples:
    """A map from positions to samples; a torch `DataLoader` takes it as it is.

    A position is epoch · len + index, so that worker processes need not be told the epoch.
    In training, an epoch visits the pairs in an order drawn anew, or, when their weights differ,
    draws among them. Without augmentation (validation) there are no random choices but the
    blur's, which are the same in every epoch; crops are central.

    pairs: what to draw from. Those without a blurred partner are blurred by `degradation`.
    crop: (height, width) or one number for both; None for whole images.
    augmentation: None for validation.
    length: samples in an epoch; the number of pairs by default.
    value_range: "unit" for [0, 1], "symmetric" for [−1, 1].
    Raises DataError for images smaller than the crop, for pairs without blur, for no pairs.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        degradation: Degradation | None = None,
        *,
        crop: int | tuple[int, int] | None = 256,
        augmentation: Augmentation | None = None,
        seed: int = 42,
        length: int | None = None,
        value_range: ValueRange = "unit",
        cache: ImageCache | None = None,
    ) -> None:
        if not pairs:
            raise DataError("there are no images to take samples from")
        if degradation is None and any(pair.blurred is None for pair in pairs):
            bare = next(pair for pair in pairs if pair.blurred is None)
            raise DataError(f"{bare.sharp.label}: has no blurred partner; name a blur to make one")
        if length is not None and length < 1:
            raise DataError(f"an epoch needs at least one sample, got {length}")
        if value_range not in get_args(ValueRange):
            raise DataError(f"a value range is unit or symmetric, got {value_range}")
        if degradation is not None and degradation.frames is not None:
            single = next((pair for pair in pairs if pair.blurred is None), None)
            if single is not None:
                label = single.sharp.label
                raise DataError(f"{label}: its frames must be averaged before (data.averaged)")
        self.pairs = list(pairs)
        self.degradation = degradation
        self.crop = _crop_of(crop)
        self.augmentation = augmentation
        self.seed = seed
        self.length = length or len(self.pairs)
        self.value_range = value_range
        self.cache = cache or ImageCache()
        self._cumulated = _cumulated_chances(self.pairs)
        self._order: tuple[tuple[int, int], NDArray[np.intp]] | None = None
        for index in np.linspace(0, len(pairs) - 1, min(_PROBED, len(pairs))).astype(int):
            self._require_room(pairs[index], pairs[index].sharp.size())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Sample]:
        """The first epoch."""
        return (self[index] for index in range(self.length))

    def __getitem__(self, position: int) -> Sample:
        epoch, index = divmod(int(position), self.length)
        if self.augmentation is None:
            epoch = 0
        rng = generator(self.seed, epoch, index)
        pair = self._choose(epoch, index, rng)
        blurred, sharp = self._windows(pair, rng)
        if self.augmentation is not None:
            blurred, sharp = _turned(blurred, sharp, self.augmentation, rng)
        both = [_planes(blurred), _planes(sharp)]
        if self.augmentation is not None and self.augmentation.jitter:
            both = _jittered(both, self.augmentation.jitter, rng)
        if self.value_range == "symmetric":
            both = [2 * image - 1 for image in both]
        return {"blurred": both[0], "sharp": both[1], "name": pair.name}

    def _choose(self, epoch: int, index: int, rng: np.random.Generator) -> Pair:
        count = len(self.pairs)
        if self.augmentation is None:
            return self.pairs[index % count]
        if self._cumulated is not None:
            place = int(np.searchsorted(self._cumulated, rng.random(), side="right"))
            return self.pairs[min(place, count - 1)]
        # Long epochs go through all pairs several times, each time in another order.
        turn = (epoch, index // count)
        if self._order is None or self._order[0] != turn:
            self._order = (turn, generator(self.seed, "order", *turn).permutation(count))
        return self.pairs[int(self._order[1][index % count])]

    def _windows(self, pair: Pair, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """The blurred and the sharp crop, uint8."""
        sharp = self.cache.load(pair.sharp)
        height, width = sharp.shape[:2]
        self._require_room(pair, (width, height))
        crop = self.crop or (height, width)
        scale = 1.0
        if self.augmentation is not None:
            scale = draw(self.augmentation.scale, rng)
            scale = min(1.0, max(scale, crop[0] / height, crop[1] / width))
        taken = (round(crop[0] / scale), round(crop[1] / scale))
        top, left = self._corner((height - taken[0], width - taken[1]), rng)
        place = (top, left, *taken)
        if pair.blurred is not None:
            given = self.cache.load(pair.blurred)
            if given.shape != sharp.shape:
                raise DataError(
                    f"{pair.blurred.label}: is {given.shape[1]}×{given.shape[0]}, "
                    f"its sharp partner {width}×{height}"
                )
            if self.degradation is None or self.degradation.frames is None:
                return _region(given, place, crop, 0)[0], _region(sharp, place, crop, 0)[0]
        else:
            given = sharp
        assert self.degradation is not None  # noqa: S101  (checked when it was made)
        drawn = self.degradation.draw(rng)
        # With its surroundings, so that blur comes from outside the crop as well.
        patch, corner = _region(given, place, crop, drawn.reach)
        inside = np.s_[corner[0] : corner[0] + crop[0], corner[1] : corner[1] + crop[1]]
        clean = patch if given is sharp else _region(sharp, place, crop, drawn.reach)[0]
        return spoil(drawn, patch)[inside], spoil(drawn.target, clean)[inside]

    def _corner(self, room: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        if self.augmentation is None:
            return room[0] // 2, room[1] // 2
        return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))

    def _require_room(self, pair: Pair, size: tuple[int, int]) -> None:
        if self.crop and (size[1] < self.crop[0] or size[0] < self.crop[1]):
            raise DataError(
                f"{pair.sharp.label}: is {size[0]}×{size[1]}, smaller than the crop of "
                f"{self.crop[1]}×{self.crop[0]}; choose a smaller crop or leave it out"
            )


def _crop_of(crop: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if crop is None:
        return None
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    if min(height, width) < 1:
        raise DataError(f"a crop has at least one pixel, got {height}×{width}")
    return int(height), int(width)


def _cumulated_chances(pairs: list[Pair]) -> NDArray[np.float64] | None:
    """Each part is drawn as its weight says, its pairs equally; None when all are alike."""
    counts = Counter(pair.part for pair in pairs)
    chances = np.array([pair.weight / counts[pair.part] for pair in pairs])
    if not (np.isfinite(chances).all() and (chances >= 0).all() and chances.sum() > 0):
        raise DataError("weights of data sets are not negative and not all zero")
    return None if np.ptp(chances) == 0 else np.cumsum(chances) / chances.sum()


def _region(
    image: Pixels, place: tuple[int, int, int, int], crop: tuple[int, int], reach: int
) -> tuple[Pixels, tuple[int, int]]:
    """A part of an image with up to `reach` pixels around, and where the part begins in it.

    place: top, left, height and width in the image; crop: the height and width it comes out at.
    """
    top, left, height, width = place
    down, right = height / crop[0], width / crop[1]  # pixels of the image to one of the result
    above, before = min(reach, int(top / down)), min(reach, int(left / right))
    below = min(reach, int((image.shape[0] - top - height) / down))
    after = min(reach, int((image.shape[1] - left - width) / right))
    if (height, width) == crop:
        part = image[top - above : top + height + below, left - before : left + width + after]
        return part, (above, before)
    box = (  # within the image, which rounding may leave by a hair
        max(0.0, left - before * right),
        max(0.0, top - above * down),
        min(image.shape[1], left + width + after * right),
        min(image.shape[0], top + height + below * down),
    )
    size = (before + crop[1] + after, above + crop[0] + below)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box)), (above, before)


def _turned(
    blurred: Pixels, sharp: Pixels, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    turns = int(rng.integers(4)) if augmentation.rotations else 0
    if blurred.shape[0] != blurred.shape[1]:
        turns -= turns % 2
    down, across = (rng.random(2) < 0.5) & augmentation.flips

    def turn(image: Pixels) -> Pixels:
        image = np.rot90(image, turns)
        return image[:: -1 if down else 1, :: -1 if across else 1]

    return turn(blurred), turn(sharp)


def _planes(image: Pixels) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


def _jittered(
    both: list[NDArray[np.float32]], jitter: float, rng: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Brightness, contrast and saturation changed by the same factors around the same mean."""
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    mean = both[1].mean() * brightness
    changed = []
    for image in both:
        image = mean + (image * brightness - mean) * contrast
        grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), image, axes=1)
        changed.append(np.clip(grey + (image - grey) * saturation, 0, 1))
    return changed


class Positions:
    """The positions of one epoch for one rank, as a sampler of a `DataLoader`.

    start: samples of this epoch that a resumed run has seen already, over all ranks.
    rank, ranks: each rank takes every so-many-th sample; what does not divide is left out, so
        that all ranks take equally many.
    """

    def __init__(
        self, length: int, epoch: int = 0, start: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        if not (0 <= rank < ranks and 0 <= start <= length):
            raise DataError(f"no positions for rank {rank} of {ranks} from {start} of {length} on")
        self.length, self.epoch, self.start = length, epoch, start
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return (self.length - self.start) // self.ranks

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.length + self.start + self.rank
        return iter(range(first, first + len(self) * self.ranks, self.ranks))
