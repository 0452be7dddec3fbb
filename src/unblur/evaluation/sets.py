"""What is evaluated on: the pairs of a data set, or its sharp images under a blur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.blur import Degradation, Kernel, parse_degradation, spoil
from unblur.blur.kernels import read_kernel
from unblur.blur.steps import Drawn, Record, flat_records
from unblur.data import (
    Dataset,
    Pair,
    averaged,
    in_patches,
    of_sequences,
    of_subset,
    open_dataset,
    read_split,
    resized,
    without_blurred,
)
from unblur.data.randomness import generator
from unblur.data.sources import ImageSource, PatchSource
from unblur.evaluation.errors import EvaluationError
from unblur.files import printable
from unblur.registry import ConfigError, unknown
from unblur.yaml_files import read_yaml

_MOST_LABELS = 30  # of blurs that get a line each in a table


@dataclass(frozen=True)
class SetSpec:
    """A set as a command line or a suite describes it.

    data: `layout:path`, or parts as in a `mix` file. name: in tables; the data and blur by default.
    blur: for images without a blurred partner: a preset, file, spec, or steps as YAML has them.
    each: every alternative of the blur, such as each kernel of a folder, on every image; otherwise
        one is drawn for each image. reblur: blur the sharp images of pairs too.
    subset: only this one, such as test. sequences: only these; the last part of a name will do.
    split: a split file whose validation is used.
    resize: height and width. count: at most so many images, evenly spread. seed: of the blur; the
        same images come out as of `unblur data synthesize` with it.
    """

    data: str | list[dict[str, Any]]
    name: str | None = None
    blur: str | list[Any] | dict[str, Any] | None = None
    each: bool = False
    reblur: bool = False
    subset: str | None = None
    sequences: tuple[str, ...] = ()
    split: str | None = None
    resize: tuple[int, int] | None = None
    count: int | None = None
    seed: int = 42


@dataclass(frozen=True)
class Example:
    """A blurred image and its sharp one, H×W×3 uint8.

    kernel: the one that made the whole blur, where it is known. gamma: of the light that it acted
    on, "srgb" for that curve, None for the code values themselves.
    """

    blurred: NDArray[np.uint8]
    sharp: NDArray[np.uint8]
    kernel: Kernel | None = None
    gamma: float | str | None = None
    name: str = ""


@dataclass(frozen=True)
class Case:
    """One image to restore. blur: what blurred it, in words; empty when that is not known."""

    name: str
    pair: Pair
    drawn: Drawn | None = None
    blur: str = ""

    def load(self) -> Example:
        """Decode and, if need be, blur. Raises DataError, EvaluationError."""
        patch = self.pair.sharp if isinstance(self.pair.sharp, PatchSource) else None
        sharp = _whole(self.pair.sharp, self.drawn)
        given = sharp if self.pair.blurred is None else _whole(self.pair.blurred, self.drawn)
        records: Sequence[Record] = self.pair.blur
        kernel = None
        if self.drawn is not None:
            given, records = spoil(self.drawn, given), self.drawn.records
            sharp = spoil(self.drawn.target, sharp)
            if patch is not None:
                given, sharp = patch.cut(given), patch.cut(sharp)
            kernel = self.drawn.kernel if self.pair.blurred is None else None
        elif self.pair.kernel is not None and Path(self.pair.kernel).is_file():
            kernel = read_kernel(Path(self.pair.kernel))
        if given.shape != sharp.shape:
            raise EvaluationError(
                f"{self.pair.name}: blurred is {given.shape[1]}×{given.shape[0]}, "
                f"sharp {sharp.shape[1]}×{sharp.shape[0]}"
            )
        return Example(given, sharp, kernel, _gamma(records), self.name)


def _whole(source: ImageSource, drawn: Drawn | None) -> NDArray[np.uint8]:
    """An image that is to be blurred, of a patch the one that it is cut out of; others as is."""
    return (source.source if drawn and isinstance(source, PatchSource) else source).load()


@dataclass(frozen=True)
class TestSet:
    """A set that is ready.

    problems: files that had to be left out, and why. patches: rows and columns that its images
    are cut into. roots: the folders that they lie in.
    """

    __test__ = False  # pytest

    name: str
    spec: SetSpec
    cases: tuple[Case, ...]
    problems: tuple[str, ...] = ()
    patches: tuple[int, int] | None = None
    roots: tuple[Path, ...] = ()

    @property
    def sequences(self) -> Counter[str]:
        """Sequence → number of images."""
        return Counter(case.pair.sequence for case in self.cases)


def open_set(spec: SetSpec, root: Path = Path(), patches: tuple[int, int] | None = None) -> TestSet:
    """Open a data set for evaluation; relative paths start at `root`.

    Raises DataError, BlurError, EvaluationError, and ConfigError for settings that do not fit.
    """
    for name in ("each", "reblur"):
        if getattr(spec, name) and spec.blur is None:
            raise ConfigError(f"{spec.name or _name(spec)}: {name} needs a blur, which is missing")
    dataset = open_dataset(spec.data, root)
    if spec.subset is not None:
        dataset = of_subset(dataset, spec.subset)
    if spec.sequences:
        dataset = of_sequences(dataset, spec.sequences)
    if spec.split is not None:
        part = read_split(root / Path(spec.split).expanduser()).part(dataset, "val")
        dataset = replace(dataset, pairs=tuple(part))
    if spec.reblur:
        dataset = without_blurred(dataset)
    degradation = None if spec.blur is None else _degradation(spec.blur, root)
    if degradation is not None and degradation.frames is not None:
        dataset = averaged(dataset, degradation.frames, spec.seed)
    if spec.resize is not None:
        dataset = resized(dataset, *spec.resize)
    if spec.count is not None and spec.count < len(dataset.pairs):
        chosen = np.linspace(0, len(dataset.pairs) - 1, spec.count).round().astype(int)
        dataset = replace(dataset, pairs=tuple(dataset.pairs[index] for index in chosen))
    if patches is not None:
        dataset = in_patches(dataset, *patches)
    pairs = list(dataset.pairs)
    if not pairs:
        raise EvaluationError(f"{dataset.spec}: there are no images in it to evaluate on")
    cases = _cases(dataset, pairs, spec, degradation)
    if degradation is not None and not any(case.drawn for case in cases):
        raise ConfigError(
            f"{dataset.spec}: the blur would go unused, as each of its images has a blurred "
            "partner; leave it out, or blur the sharp ones instead with reblur (--reblur)"
        )
    name = printable(spec.name or _name(spec))
    return TestSet(name, spec, tuple(_labelled(cases)), dataset.problems, patches, dataset.roots)


def _degradation(blur: str | list[Any] | dict[str, Any], root: Path) -> Degradation:
    return parse_degradation(_at(blur, root))


def _at(node: Any, root: Path) -> Any:
    """Steps whose kernel files are looked for below a root."""
    if isinstance(node, list):
        return [_at(each, root) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: str(root / Path(value).expanduser())
        if key == "path" and isinstance(value, str)
        else _at(value, root)
        for key, value in node.items()
    }


def _name(spec: SetSpec) -> str:
    data = spec.data if isinstance(spec.data, str) else "mixture"
    if spec.blur is None:
        return data
    return f"{data}, {spec.blur if isinstance(spec.blur, str) else 'blurred'}"


def _cases(
    dataset: Dataset, pairs: Sequence[Pair], spec: SetSpec, degradation: Degradation | None
) -> list[Case]:
    without = [pair for pair in pairs if pair.blurred is None]
    made_of_frames = degradation is not None and degradation.frames is not None
    if without and degradation is None and dataset.is_paired:
        raise EvaluationError(f"{dataset.spec}: {without[0].name} has no blurred partner")
    cases = []
    for pair in pairs:
        # Patches of an image are blurred as it is, before they are cut out.
        is_patch = isinstance(pair.sharp, PatchSource)
        whole = pair.name.rpartition("/")[0] if is_patch else pair.name
        steps = []
        if degradation is not None and (pair.blurred is None or made_of_frames):
            steps = degradation.step.alternatives() if spec.each else [degradation.step]
        for number, step in enumerate(steps):
            drawn = step.draw(generator(spec.seed, whole, number))
            name = printable(pair.name)
            if len(steps) > 1:
                name = f"{name}/{number + 1:03}"
            cases.append(Case(name, pair, drawn, describe(drawn.records)))
        if not steps:
            # A sharp image without a blur is compared with itself: nothing may change.
            cases.append(Case(printable(pair.name), pair, None, describe(pair.blur)))
    return cases


def _labelled(cases: list[Case]) -> list[Case]:
    """With labels for tables: where every image has another blur, only the kind of each."""
    if len({case.blur for case in cases}) <= min(_MOST_LABELS, max(3, len(cases) // 2)):
        return cases
    return [replace(case, blur=" + ".join(_kinds(case.blur))) for case in cases]


def _kinds(label: str) -> list[str]:
    return [part.split(" ")[0] for part in label.split(" + ")]


def describe(records: Sequence[Record]) -> str:
    """What blurred an image, in words: `gaussian 7×7 sigma=1`. Empty for no records."""
    words = []
    for record in flat_records(records):
        if record.get("step") == "frames":
            words.append(f"frames window={record.get('window')}")
        if "kernel_size" not in record:
            continue
        height, width = record["kernel_size"]
        values = [
            f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in record.items()
            if key not in ("step", "kernel_size", "seed")
        ]
        words.append(" ".join([str(record["step"]), f"{height}×{width}", *values]))
    return " + ".join(words) or ("unchanged" if records else "")


def _gamma(records: Sequence[Record]) -> float | str | None:
    """The light that the kernel acted on."""
    for record in records:
        if record.get("step") == "linear_light" and any(
            "kernel_size" in inner for inner in flat_records(record.get("steps", []))
        ):
            return record.get("gamma")
    return None


def read_suite(path: Path) -> list[SetSpec]:
    """The sets of a YAML file: a list of mappings with the fields of `SetSpec`.

    Raises EvaluationError or ConfigError that says what is wrong.
    """
    content = read_yaml(path, EvaluationError)
    if not isinstance(content, list) or not content:
        raise EvaluationError(f"{path}: a suite is a list of sets")
    return [_spec(path, number, values) for number, values in enumerate(content, 1)]


_LISTS: dict[str, tuple[type, ...]] = {
    "data": (dict,), "resize": (int,), "sequences": (str, int),
}  # fmt: skip


def _spec(path: Path, number: int, values: object) -> SetSpec:
    place = f"{path}, set {number}"
    if not isinstance(values, Mapping) or "data" not in values:
        raise EvaluationError(f"{place}: a set is a mapping with at least `data`")
    fields: dict[str, tuple[type, ...]] = {
        "data": (str, list), "name": (str,), "blur": (str, list, dict), "each": (bool,),
        "reblur": (bool,), "subset": (str,), "split": (str,), "resize": (list,), "count": (int,),
        "seed": (int,), "sequences": (list,),
    }  # fmt: skip
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{place}: {unknown('setting', str(key), fields)}")
        fits = isinstance(value, fields[key])
        if isinstance(value, bool):
            fits = bool in fields[key]
        elif isinstance(value, list) and key in _LISTS:
            fits = all(type(each) in _LISTS[key] for each in value)
        if not fits or (key == "count" and value < 1):
            raise ConfigError(f"{place}: {key} cannot be {value!r}")
    settings = dict(values)
    if "resize" in settings:
        if len(settings["resize"]) != 2 or min(settings["resize"]) < 1:
            raise ConfigError(f"{place}: resize takes height and width")
        settings["resize"] = tuple(settings["resize"])
    if "sequences" in settings:
        settings["sequences"] = tuple(str(name) for name in settings["sequences"])
    return SetSpec(**settings)


def plain(spec: SetSpec) -> dict[str, Any]:
    """A set's settings as JSON has them, without defaults."""
    default = asdict(SetSpec(""))
    return {key: value for key, value in asdict(spec).items() if value != default[key]}
