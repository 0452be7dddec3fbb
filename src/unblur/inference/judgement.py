"""How blurred a photo was, judged by what its restoration undid, and how much that changed it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDE = 128  # of the patches that are looked at
_ACROSS = 4  # so many of them along each axis at most
_STRIP = 64  # rows that are compared at once
_UNSEEN = 0.2  # levels that a photo changes by on average, and nobody sees
_EXPLAINED = 0.05  # of the squared change: what blur explains less of was not sharpened
_SIGMAS = np.concatenate([[0.0], np.geomspace(0.2, 6.0, 35)])


class Verdict(enum.StrEnum):
    """What a restoration did to a photo, at full strength.

    From a restoration at less it is told as well as the rounding of its values allows.
    """

    SHARPER = "sharper"
    NO_SHARPER = "no sharper"
    HARDLY_CHANGED = "hardly changed"
    UNTOUCHED = "untouched"  # as asked: strength 0


@dataclass(frozen=True)
class Judgement:
    """blur: σ in pixels of the Gaussian that, put on the restored photo, comes nearest to the
    photo that was given; 0 for one that was left as it is. Where it differs over the photo, it is
    the mean over patches, each weighed by how much of its change the blur explains: a subject out
    of focus counts, a sharp background does not. Shake and defocus are judged by the Gaussian most
    like them, and what the model could not undo does not count.
    change: the mean absolute change of a value, in 8-bit levels.
    """

    blur: float
    change: float
    verdict: Verdict


def judge(given: NDArray[Any], restored: NDArray[Any], strength: float = 1.0) -> Judgement:
    """Judge a photo, H×W or H×W×3 of uint8 or uint16, by its restoration, of the same shape.

    strength: of the restoration; what was blended away is put back for judging.
    """
    white = float(np.iinfo(str(given.dtype)).max)
    changed = explained = weighed = 0.0
    for rows, columns in _patches(*given.shape[:2]):
        before, after = (_grey(image[rows, columns]) / white for image in (given, restored))
        errors = _errors(before, before + (after - before) / max(strength, 1e-6))
        nearest = int(np.argmin(errors))
        gain = float(errors[0] - errors[nearest])
        changed += float(errors[0])
        explained += gain
        weighed += gain * float(_SIGMAS[nearest])
    blur = weighed / explained if explained > _EXPLAINED * changed else 0.0
    change = 255 * _mean_change(given, restored) / white
    if strength == 0:
        verdict = Verdict.UNTOUCHED
    elif change / strength < _UNSEEN:
        verdict = Verdict.HARDLY_CHANGED
    else:
        verdict = Verdict.SHARPER if blur else Verdict.NO_SHARPER
    return Judgement(round(blur, 2), round(change, 2), verdict)


def _mean_change(given: NDArray[Any], restored: NDArray[Any]) -> float:
    total = 0
    for top in range(0, len(given), _STRIP):
        before, after = (image[top : top + _STRIP].astype(np.int32) for image in (given, restored))
        total += int(np.abs(after - before).sum(dtype=np.int64))
    return total / given.size


def _patches(height: int, width: int) -> list[tuple[slice, slice]]:
    def axis(length: int) -> list[slice]:
        count = min(_ACROSS, max(1, length // _SIDE))
        room = max(0, length - _SIDE)
        starts = {round(room * (index + 0.5) / count) for index in range(count)}
        return [slice(start, start + _SIDE) for start in sorted(starts)]

    return [(rows, columns) for rows in axis(height) for columns in axis(width)]


def _grey(image: NDArray[Any]) -> NDArray[np.float64]:
    return image.astype(np.float64) if image.ndim == 2 else image.mean(axis=2)


def _errors(blurred: NDArray[np.float64], sharp: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared error for each σ; by Parseval's theorem it is that of the spectra."""
    # Fading out at its border keeps what lies beyond a patch from counting.
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in blurred.shape))
    mean = sharp.mean()
    before, after = (np.fft.rfft2((image - mean) * window) for image in (blurred, sharp))
    rows, columns = np.fft.fftfreq(blurred.shape[0]), np.fft.rfftfreq(blurred.shape[1])
    squared = rows[:, None] ** 2 + columns**2
    return np.array(
        [
            float(np.sum(np.abs(after * np.exp(-2 * (np.pi * sigma) ** 2 * squared) - before) ** 2))
            for sigma in _SIGMAS
        ]
    )
