"""Looking through a data set for what would stop or spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.sources import FileSource, ImageSource, StoredSource


@dataclass
class Report:
    """What a check found. problems stop a training, remarks are worth knowing."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)


def check_dataset(
    dataset: Dataset, progress: Callable[[int, int], None] | None = None, workers: int = 4
) -> Report:
    """Decode every image of a data set and list what is wrong.

    progress: called with (images done, images in all).
    """
    report = Report(problems=list(dataset.problems))
    unusual: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        for done, (size, kinds, wrong) in enumerate(pool.map(_look, dataset.pairs), 1):
            report.problems += wrong
            if size:
                report.sizes[size] += 1
            unusual.update(kinds)
            if progress:
                progress(done, len(dataset.pairs))
    for kind, count in unusual.items():
        report.remarks.append(f"{count} images are {kind}; they are converted to 8-bit RGB")
    single = Counter(pair.sequence for pair in dataset.pairs)
    if dataset.is_paired and len(single) == 1 and len(dataset.pairs) > 1:
        report.remarks.append("all images are of one sequence, so they cannot be split")
    return report


def _look(pair: Pair) -> tuple[tuple[int, int] | None, list[str], list[str]]:
    """(size of the sharp image, unusual kinds, problems) of a pair."""
    sizes: list[tuple[int, int]] = []
    kinds: list[str] = []
    problems: list[str] = []
    for source in (pair.sharp, pair.blurred):
        if source is None:
            continue
        try:
            size, kind = _decode(source)
            sizes.append(size)
            kinds += kind
        except DataError as error:
            problems.append(str(error))
    if pair.blurred is not None and len(sizes) == 2 and sizes[0] != sizes[1]:
        (width, height), (other_width, other_height) = sizes
        problems.append(
            f"{pair.blurred.label}: is {other_width}×{other_height}, "
            f"its sharp partner {width}×{height}"
        )
    return (sizes[0] if sizes else None), kinds, problems


def _decode(source: ImageSource) -> tuple[tuple[int, int], list[str]]:
    if not isinstance(source, FileSource | StoredSource):
        height, width = source.load().shape[:2]
        return (width, height), []
    photo = source.photo()
    kinds = ["grey"] if photo.is_grey else []
    if photo.pixels.dtype.itemsize == 2:
        kinds.append("of 16 bits")
    if photo.alpha is not None:
        kinds.append("partly transparent")
    return (photo.width, photo.height), kinds
