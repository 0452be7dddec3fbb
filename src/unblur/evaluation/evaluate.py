"""Models × sets → measured images, resumable, one failure at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unblur import __version__
from unblur.blur import BlurError
from unblur.data import DataError, Leak, leak_of, require_outside
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.lpips import Lpips
from unblur.evaluation.pictures import Shown, show
from unblur.evaluation.protocol import Protocol
from unblur.evaluation.restorers import About, Floats, ModelSpec, Restorer, open_restorer
from unblur.evaluation.sets import Case, Example, TestSet, plain
from unblur.files import (
    atomic_path,
    file_name,
    printable,
    require_relative,
    write_json,
    write_table,
)
from unblur.metrics import BEST_PSNR, DEFAULT_METRICS

Row = dict[str, Any]
Progress = Callable[[int, int], None]

METRICS_FILE, TABLE_FILE, _PROGRESS_FILE = "metrics.json", "metrics.csv", "images.partial.jsonl"


@dataclass
class Result:
    """One model on one set.

    rows: an image each: `psnr_input`, `psnr`, `gain`, `ssim_input` …, or `error`, or `skipped`
        where a method does not apply.
    leak: sequences of the set that the model was trained on; None when that is not known.
    shown: pictures of its best, median and worst image.
    """

    model: About
    data: TestSet
    protocol: Protocol
    rows: list[Row] = field(default_factory=list)
    leak: Leak | None = None
    shown: list[Shown] = field(default_factory=list)

    @property
    def measured(self) -> list[Row]:
        return [row for row in self.rows if _is_measured(row)]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if "error" in row]

    @property
    def mean(self) -> dict[str, Any]:
        """Means over all measured images, and how many there were, failed or were identical."""
        return summarize(self.rows)

    @property
    def peak_bytes(self) -> int | None:
        return max((row["peak_bytes"] for row in self.measured if row["peak_bytes"]), default=None)

    @property
    def gain(self) -> float | None:
        """The mean gain; None where some image has none, or the inputs were hardly blurred.

        Of those, there is nothing to gain, and tens of dB to lose that nobody can see.
        """
        mean = self.mean
        if mean["count"] < len(self.data.cases) or mean["psnr_input"] > HARDLY_BLURRED:
            return None
        return mean.get("gain")

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model.label,
            "sha256": self.model.fingerprint,
            "best": self.model.best,
            "data": self.data.name,
            "protocol": self.protocol.name,
            "mean": self.mean | {"peak_mib": _mib(self.peak_bytes)},
            "leak": None
            if self.leak is None
            else {"sequences": sorted(self.leak.sequences), "images": self.leak.images},
            "problems": list(self.data.problems),
            "images": self.rows,
        }


@dataclass
class Evaluation:
    """All results, in the order of sets and models."""

    protocol: Protocol
    metrics: tuple[str, ...]
    results: list[Result]

    @property
    def models(self) -> list[About]:
        return list({result.model.label: result.model for result in self.results}.values())

    @property
    def sets(self) -> list[TestSet]:
        return list({result.data.name: result.data for result in self.results}.values())

    @property
    def is_complete(self) -> bool:
        """Whether every image of every set was restored and measured."""
        return not any(result.failed or result.data.problems for result in self.results)

    def of_set(self, name: str) -> list[Result]:
        return [result for result in self.results if result.data.name == name]


def _is_measured(row: Row) -> bool:
    return "error" not in row and "skipped" not in row


def not_identical(rows: Sequence[Row]) -> list[Row]:
    """Those whose input differed from its target; all, if none did.

    The PSNR of an identical input has no bound, and a few of them would outweigh all others.
    """
    return [row for row in rows if row.get("psnr_input") != BEST_PSNR] or list(rows)


HARDLY_BLURRED = 50.0  # dB of a set's inputs, from which on means over sets leave it out
CLEARLY_BLURRED = 40.0  # dB of an image's input, below which nobody would call it sharp
WORSE = 0.1  # dB that such an image loses when it counts as made worse
_WITHOUT_IDENTICAL = ("psnr_input", "psnr", "gain")


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """The means of rows, over those that were measured; of PSNR, over `not_identical` ones."""
    measured = [row for row in rows if _is_measured(row)]
    different = not_identical(measured)
    mean: dict[str, Any] = {}
    for name in dict.fromkeys(key for row in measured for key in row):
        values = [row.get(name) for row in (different if name in _WITHOUT_IDENTICAL else measured)]
        numbers = [v for v in values if isinstance(v, float)]
        if name not in ("seconds",) and numbers:
            mean[name] = float(np.mean(numbers))
    if measured and "gain" in mean:
        mean["worst_gain"] = min(row["gain"] for row in different)
        blurred = [row for row in different if row["psnr_input"] < CLEARLY_BLURRED]
        mean["clearly_blurred"] = len(blurred)
        mean["worse"] = sum(row["gain"] < -WORSE for row in blurred)
    speeds = [r["seconds"] / r["megapixels"] for r in measured if r.get("seconds") is not None]
    mean.pop("megapixels", None)
    mean["seconds_per_megapixel"] = float(np.median(speeds)) if speeds else None
    mean["count"] = len(measured)
    mean["failed"] = sum("error" in row for row in rows)
    mean["skipped"] = sum("skipped" in row for row in rows)
    mean["identical"] = sum(row.get("psnr") == BEST_PSNR for row in measured)
    given = [row for row in measured if row.get("psnr_input") == BEST_PSNR]
    mean["identical_input"] = len(given)
    mean["psnr_of_identical"] = float(np.mean([row["psnr"] for row in given])) if given else None
    return mean


def evaluate(
    models: Sequence[ModelSpec | Restorer],
    sets: Sequence[TestSet],
    protocol: Protocol | None = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    folder: Path | None = None,
    overwrite: bool = False,
    save: bool = False,
    pictures: bool = False,
    lpips_weights: Path | None = None,
    progress: Progress | None = None,
    report: Callable[[Evaluation], object] | None = None,
) -> Evaluation:
    """Restore every image of every set with every model, and measure.

    folder: where metrics.json and metrics.csv are written; an interrupted evaluation of the same
        models, sets and protocol goes on there. save: also write the restored images.
    pictures: fill in each result's `shown`. report: called with the evaluation before metrics.json
        is written, so that it, too, is made when an interrupted evaluation goes on.
    The models take turns at each image, in changing order, so that their times are comparable.
    Raises DataError, EvaluationError or ModelError before anything is restored; what fails later
    is in the rows, unless it is the folder that cannot be written.
    """
    protocol = protocol or Protocol()
    require_different([data.name for data in sets], "sets")
    for data in sets:
        if data.patches != protocol.patches:
            raise EvaluationError(f"{data.name}: open the set with the patches of the protocol")
        if folder is not None:
            require_outside(folder, data.roots)
    lpips = Lpips(lpips_weights) if "lpips" in metrics else None
    with ExitStack() as stack:
        restorers = [
            stack.enter_context(model if isinstance(model, Restorer) else open_restorer(model))
            for model in models
        ]
        require_different([restorer.about.label for restorer in restorers], "models")
        signature = _signature(restorers, sets, protocol, metrics, lpips, save)
        log = _Log(folder, signature, overwrite)
        stack.enter_context(log)
        results = [
            Result(each.about, data, protocol, [], _leak(each.about, data))
            for data in sets
            for each in restorers
        ]
        total = sum(len(data.cases) for data in sets) * len(restorers)
        total += len(results) * pictures
        done = 0
        for number, data in enumerate(sets):
            here = results[number * len(restorers) : (number + 1) * len(restorers)]
            for turn, case in enumerate(data.cases):
                found = [log.row(each.about.label, data.name, case.name) for each in restorers]
                if not all(found):
                    found = _case(
                        case, turn, restorers, protocol, metrics, lpips, found,
                        _saver(folder, data) if save else None,
                    )  # fmt: skip
                    for each, row in zip(restorers, found, strict=True):
                        log.add(each.about.label, data.name, row)
                for result, row in zip(here, found, strict=True):
                    assert row is not None  # noqa: S101
                    result.rows.append(row)
                done += len(restorers)
                if progress:
                    progress(done, total)
        if pictures:
            for result, restorer in zip(results, restorers * len(sets), strict=True):
                result.shown = list(_pictures(result, restorer, protocol))
                done += 1
                if progress:
                    progress(done, total)
    evaluation = Evaluation(protocol, tuple(metrics), results)
    with _writing(folder):
        if report is not None:
            report(evaluation)
        if folder is not None:
            _write(evaluation, folder)
            log.forget()
    return evaluation


@contextlib.contextmanager
def _writing(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written ({error.strerror})") from error


Saver = Callable[[str, str, Floats], None]


def _case(
    case: Case,
    turn: int,
    restorers: Sequence[Restorer],
    protocol: Protocol,
    metrics: Sequence[str],
    lpips: Lpips | None,
    found: Sequence[Row | None],
    save: Saver | None,
) -> list[Row | None]:
    """The rows of one image, a model each; those that were found are not made again."""
    sequence = printable(case.pair.sequence)
    basis: Row = {"name": case.name, "sequence": sequence, "blur": case.blur}
    try:
        example = _cut(case.load(), protocol)
        given = protocol.measure(example.blurred / 255, example.sharp, metrics, lpips)
    except (DataError, BlurError, EvaluationError) as error:
        return [{**basis, "error": str(error)} for _ in restorers]
    height, width = example.sharp.shape[:2]
    basis |= {"width": width, "height": height, "megapixels": width * height / 1e6}
    rows = list(found)
    for step in range(len(restorers)):
        index = (turn + step) % len(restorers)
        if rows[index] is not None:
            continue
        if restorers[index].needs_kernel and example.kernel is None:
            rows[index] = {**basis, "skipped": "its kernel is not known"}
            continue
        try:
            restored = restorers[index].restore(example)
            values = protocol.measure(restored.image, example.sharp, metrics, lpips)
        except (EvaluationError, DataError) as error:
            rows[index] = {**basis, "error": str(error)}
            continue
        if save is not None:
            save(restorers[index].about.label, case.name, restored.image)
        row: Row = dict(basis)
        for name, value in values.items():
            row[f"{name}_input"], row[name] = given[name], value
        if "psnr" in row:
            row["gain"] = row["psnr"] - row["psnr_input"]
        row |= {"seconds": restored.seconds, "peak_bytes": restored.peak_bytes}
        rows[index] = row
    return rows


def _pictures(result: Result, restorer: Restorer, protocol: Protocol) -> Iterator[Shown]:
    """Its best, median and worst image, restored once more."""
    rows = sorted((row for row in result.measured if "gain" in row), key=lambda row: row["gain"])
    if not rows:
        return
    cases = {case.name: case for case in result.data.cases}
    chosen = {"best": rows[-1], "median": rows[len(rows) // 2], "worst": rows[0]}
    seen = set()
    for kind, row in chosen.items():
        if row["name"] in seen:
            continue
        seen.add(row["name"])
        case = cases[row["name"]]
        with contextlib.suppress(DataError, BlurError, EvaluationError):
            example = _cut(case.load(), protocol)
            restored = eight_bit(restorer.restore(example).image)
            yield show(kind, row, example.blurred, restored, example.sharp)


def _cut(example: Example, protocol: Protocol) -> Example:
    return replace(
        example, blurred=protocol.cut(example.blurred), sharp=protocol.cut(example.sharp)
    )


def eight_bit(image: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _leak(about: About, data: TestSet) -> Leak | None:
    if about.trained_on is None:
        return None
    return leak_of(data.sequences, about.trained_on)


def require_different(labels: Sequence[str], what: str) -> None:
    """Raise EvaluationError where there are none, or two have one name."""
    if not labels:
        raise EvaluationError(f"name the {what} to evaluate")
    for label in labels:
        if labels.count(label) > 1:
            raise EvaluationError(f"two {what} are called '{label}'; give one another name: NAME=…")


def _signature(
    restorers: Sequence[Restorer],
    sets: Sequence[TestSet],
    protocol: Protocol,
    metrics: Sequence[str],
    lpips: Lpips | None,
    save: bool,
) -> str:
    """Changes with everything that results depend on, and with whether images are saved."""
    digest = hashlib.sha256()
    for data in sets:
        for case in data.cases:
            words: list[object] = [case.name, case.pair.sharp.key, case.pair.kernel]
            if case.pair.blurred is not None:
                words.append(case.pair.blurred.key)
            if case.drawn is not None:
                words += [case.drawn.records, *((k.shape, k.tobytes()) for k in case.drawn.kernels)]
            digest.update(repr(words).encode())
    values = {
        "version": __version__,
        "protocol": protocol.name,
        "metrics": list(metrics),
        "sets": [{"name": data.name, **plain(data.spec)} for data in sets],
        "images": digest.hexdigest(),
        "lpips": None if lpips is None else lpips.fingerprint,
        "save": save,
        "models": [
            [r.about.label, r.about.fingerprint, r.about.runtime, r.about.threads, r.about.best]
            for r in restorers
        ],
    }
    return json.dumps(values, sort_keys=True)


def input_of(results: Sequence[Result]) -> dict[str, Any] | None:
    """The mean of one set's result that measured most images: its input stands for the set's."""
    means = [result.mean for result in results if "psnr_input" in result.mean]
    return max(means, key=lambda mean: mean["count"], default=None)


class _Log:
    """The rows made so far, in a file that outlives an interruption."""

    def __init__(self, folder: Path | None, signature: str, overwrite: bool) -> None:
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._path = None if folder is None else folder / _PROGRESS_FILE
        self._signature = signature
        if folder is None or self._path is None:
            return
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            finished = folder / METRICS_FILE
            if finished.exists() and not overwrite:
                raise EvaluationError(f"{finished}: exists; name another folder, or --overwrite")
            if self._path.is_file() and not self._read() and not overwrite:
                raise EvaluationError(
                    f"{folder}: holds an unfinished evaluation of other models, data or settings; "
                    "name another folder, or --overwrite"
                )
            with atomic_path(self._path) as temporary:
                lines = [signature, *(json.dumps([*k, row]) for k, row in self._rows.items())]
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _read(self) -> bool:
        """Whether the file is of the same evaluation; a line that was cut off is left out."""
        assert self._path is not None  # noqa: S101
        first, *lines = self._path.read_text(encoding="utf-8").splitlines() or [""]
        if first != self._signature:
            return False
        for line in lines:
            with contextlib.suppress(ValueError):
                *key, row = json.loads(line)
                if "error" not in row:  # those are tried again
                    self._rows[tuple(key)] = row
        return True

    def __enter__(self) -> _Log:
        self._file = None if self._path is None else self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def row(self, model: str, data: str, name: str) -> Row | None:
        return self._rows.get((model, data, name))

    def add(self, model: str, data: str, row: Row | None) -> None:
        if self._file is not None and row is not None:
            with _writing(self._path):
                self._file.write(json.dumps([model, data, row["name"], row]) + "\n")
                self._file.flush()

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _saver(folder: Path | None, data: TestSet) -> Saver:
    if folder is None:
        raise EvaluationError("restored images are saved in a folder; name one")

    def save(model: str, name: str, image: Floats) -> None:
        require_relative(name, EvaluationError)
        path = folder / "restored" / file_name(model) / file_name(data.name) / f"{name}.png"
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                Image.fromarray(eight_bit(image)).save(temporary, format="PNG")

    return save


def _mib(count: int | None) -> int | None:
    return None if count is None else round(count / 2**20)


def _write(evaluation: Evaluation, folder: Path) -> None:
    results = [result.as_json() for result in evaluation.results]
    write_table(
        folder / TABLE_FILE,
        [
            {"model": r.model.label, "data": r.data.name, "protocol": r.protocol.name, **row}
            for r in evaluation.results
            for row in r.rows
        ],
    )
    # One model on one set is the whole file; several are a list in it.
    write_json(folder / METRICS_FILE, results[0] if len(results) == 1 else {"results": results})
