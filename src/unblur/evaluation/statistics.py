"""Whether one model is better than another, or only luckier: paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unblur.evaluation.evaluate import Result, not_identical

DRAWS = 10_000
_DRAWN_AT_ONCE = 1_000_000  # images; all draws of a large set at once would need gigabytes
_CLUSTERS = 5  # sequences, from which on they are what is drawn


@dataclass(frozen=True)
class Difference:
    """PSNR of the first model less that of the second, on the images that both measured.

    low, high: the 95 % bootstrap interval of the mean. clusters: how many sequences were drawn
    from, as frames of one sequence are not independent; None where single images were.
    better: the share of images on which the first is better.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    better: float
    images: int
    clusters: int | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def compare(first: Result, second: Result, seed: int = 0) -> Difference | None:
    """None when fewer than two images were measured by both.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979.
    """
    others = {row["name"]: row for row in second.measured}
    both = [row for row in first.measured if row["name"] in others and "psnr" in row]
    common = not_identical(both)
    if len(common) < 2:
        return None
    differences = np.array([row["psnr"] - others[row["name"]]["psnr"] for row in common])
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(common):
        groups.setdefault(row["sequence"], []).append(index)
    by_sequence = len(groups) >= _CLUSTERS and len(groups) < len(common)
    parts = list(groups.values()) if by_sequence else [[i] for i in range(len(common))]
    low, high = _interval([differences[part] for part in parts], seed)
    return Difference(
        first.model.label, second.model.label, float(differences.mean()), low, high,
        float((differences > 0).mean()), len(common), len(parts) if by_sequence else None,
    )  # fmt: skip


def _interval(parts: Sequence[np.ndarray], seed: int) -> tuple[float, float]:
    sums = np.array([part.sum() for part in parts])
    counts = np.array([len(part) for part in parts])
    rng = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    at_once = max(1, _DRAWN_AT_ONCE // len(parts))
    for begin in range(0, DRAWS, at_once):
        end = min(begin + at_once, DRAWS)
        drawn = rng.integers(len(parts), size=(end - begin, len(parts)))
        means[begin:end] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
