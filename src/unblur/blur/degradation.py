"""From a preset, a file or a line of text to what spoils a photo."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unblur.blur import parameters
from unblur.blur.arrays import Image, is_tensor, namespace
from unblur.blur.camera import to_eight_bit, to_float
from unblur.blur.errors import BlurError
from unblur.blur.frames import FrameAverage
from unblur.blur.steps import STEPS, Drawn, OneOf, Sequential, Step, unchanged
from unblur.yaml_files import read_yaml

PRESET_FOLDER = Path(__file__).parent / "presets"
_LONGEST_FILE = 100_000  # bytes
_DEEPEST = 20


@dataclass(frozen=True)
class Degradation:
    """Everything that turns a sharp photo into a blurred one.

    step: what is done to a photo.
    frames: for high-frame-rate sequences, how frames are averaged before that.
    name: the preset or spec it was made of.
    """

    step: Step
    frames: FrameAverage | None = None
    name: str = ""

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Make every random choice; the result does the same to any photo."""
        return self.step.draw(rng)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Spoil an image, or each image of a batch with its own random choices.

        image: H×W×3 uint8 or floats in [0, 1], or a torch tensor N×3×H×W of floats in [0, 1] on
            any device. The result is of the same type, size and place; it is computed in float32.
        Raises BlurError for other shapes and types, and when frames should be averaged: that
        needs a sequence (`data.averaged`).
        """
        if self.frames is not None:
            raise BlurError(f"{self.name or 'this'} averages the frames of a sequence, not a photo")
        if not is_tensor(image):
            return spoil(self.draw(rng), image)
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise BlurError(
                f"a batch is N×3×H×W of floats, got {tuple(image.shape)} of {image.dtype}"
            )
        drawn = [self.draw(rng) for _ in range(image.shape[0])]
        spoiled = [
            step(photo.float().permute(1, 2, 0)).permute(2, 0, 1)
            for step, photo in zip(drawn, image, strict=True)
        ]
        if not spoiled:
            return image
        return namespace(image).stack(spoiled).clip(0, 1).to(image.dtype)


def spoil(drawn: Drawn, image: Image) -> Image:
    """Apply a drawn step to an H×W×3 array; uint8 stays uint8, rounded.

    `drawn.target` makes what it should become again, of the same array.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise BlurError(f"a photo is H×W×3, got {image.shape}")
    if image.dtype == np.uint8:
        unspoiled = drawn.apply is unchanged
        return image.copy() if unspoiled else to_eight_bit(drawn(to_float(image)))
    if not np.issubdtype(image.dtype, np.floating):
        raise BlurError(f"a photo is uint8 or floats in [0, 1], got {image.dtype}")
    return np.clip(drawn(image.astype(np.float32)), 0, 1).astype(image.dtype)


def list_presets() -> dict[str, str]:
    """The names of all presets, and what each is for: the comment that its file begins with."""
    presets = {}
    for path in sorted(PRESET_FOLDER.glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = [line[1:].strip() for line in lines if line.startswith("#")]
        presets[path.stem] = " ".join(comment)
    return presets


def parse_degradation(text: str | list[Any] | dict[str, Any]) -> Degradation:
    """A degradation from a preset's name, the path of a YAML file, a spec, or steps as in a file.

    A spec is one step or several joined by `+`: `gaussian:sigma=1.6,size=11`,
    `shake:extent=5..30+noise:read=0.01+jpeg:quality=70..95`. `a..b` draws uniformly.
    Raises BlurError that says what is wrong and what is possible.
    """
    if not isinstance(text, str):
        return build_degradation(text)
    if text in list_presets():
        return dataclasses.replace(_read(PRESET_FOLDER / f"{text}.yaml"), name=text)
    if text.endswith((".yaml", ".yml")):
        return dataclasses.replace(_read(Path(text).expanduser()), name=text)
    nodes = [_parse_words(words) for words in re.split(r"\+(?=[a-z])", text)]
    return dataclasses.replace(build_degradation(nodes), name=text)


def _read(path: Path) -> Degradation:
    node = read_yaml(path, BlurError, _LONGEST_FILE)
    try:
        return build_degradation(node)
    except BlurError as error:
        raise BlurError(f"{path}: {error}") from error


def _parse_words(words: str) -> dict[str, Any]:
    name, _, rest = words.strip().partition(":")
    values: dict[str, Any] = {}
    for word in filter(None, rest.split(",")):
        key, equals, value = word.partition("=")
        if not equals:
            raise BlurError(f"'{word}' in '{words}': parameters are written name=value")
        if key.strip() in values:
            raise BlurError(f"'{words}' says {key.strip()} twice")
        values[key.strip()] = _parse_value(value)
    return {name: values or None}


def _parse_value(text: str) -> object:
    """3, 0.5, 2..8, true or a word."""
    low, dots, high = text.partition("..")
    with contextlib.suppress(ValueError):
        return [float(low), float(high)] if dots else int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return {"true": True, "false": False, "null": None}.get(text, text)


def build_degradation(node: object) -> Degradation:
    """A degradation from what YAML gives: one step or a list, `frames` possibly the first."""
    nodes = node if isinstance(node, list) else [node]
    if not nodes:
        raise BlurError("there is no step in it")
    frames = None
    if nodes and isinstance(nodes[0], Mapping) and list(nodes[0]) == ["frames"]:
        frames = _construct(FrameAverage, "frames", nodes[0]["frames"], 0)
        nodes = nodes[1:]
    steps = tuple(build_step(each) for each in nodes)
    return Degradation(steps[0] if len(steps) == 1 else Sequential(steps), frames)


def build_step(node: object, depth: int = 0) -> Step:
    """A step from what YAML gives: a name, a mapping of one name to its parameters, or a list."""
    if depth > _DEEPEST:
        raise BlurError(f"steps are nested more than {_DEEPEST} deep")
    if isinstance(node, list):
        return Sequential(tuple(build_step(each, depth + 1) for each in node))
    if isinstance(node, str):
        node = {node: None}
    if not isinstance(node, Mapping) or len(node) != 1:
        raise BlurError(f"expected one step, such as {{gaussian: {{sigma: 2}}}}, got {node!r}")
    name, values = next(iter(node.items()))
    if name == "preset" or (values is None and name in list_presets() and name not in STEPS):
        return _preset_step(values or name, depth)
    if name not in STEPS:
        known = ", ".join([*STEPS, "preset"])
        hint = "; frames must come first" if name == "frames" else ""
        presets = ", ".join(list_presets())
        raise BlurError(
            f"unknown blur '{name}'{hint}; steps: {known}; presets: {presets}; or a .yaml file"
        )
    if name == "one_of":
        return _one_of(values, depth)
    return _construct(STEPS[name], name, values, depth)


def _preset_step(name: object, depth: int) -> Step:
    if not isinstance(name, str) or name not in list_presets():
        raise BlurError(f"unknown preset {name!r}: one of {', '.join(list_presets())}")
    return build_step(read_yaml(PRESET_FOLDER / f"{name}.yaml", BlurError), depth + 1)


def _one_of(values: object, depth: int) -> Step:
    if not isinstance(values, list):
        raise BlurError("one_of takes a list of steps, each with an optional weight")
    steps, weights = [], []
    for node in values:
        weight = 1.0
        if isinstance(node, Mapping) and "weight" in node:
            number = node["weight"]
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise BlurError(f"one_of: a weight is a number, got {number!r}")
            weight, node = float(number), {k: v for k, v in node.items() if k != "weight"}
        steps.append(build_step(node, depth + 1))
        weights.append(weight)
    return OneOf(tuple(steps), tuple(weights))


def _construct(cls: Any, name: str, values: object, depth: int) -> Any:
    """An object of a step's class from its parameters, each checked against its type."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if values is None:
        values = {}
    if "steps" in fields and isinstance(values, list):
        values = {"steps": values}
    if not isinstance(values, Mapping):
        raise BlurError(f"{name} takes parameters ({', '.join(fields) or 'none'}), got {values!r}")
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            known = ", ".join(fields) or "it has none"
            raise BlurError(f"{name} has no parameter '{key}': {known}")
        try:
            arguments[key] = _convert(value, hints[key], depth)
        except BlurError as error:
            raise BlurError(f"{name}: {key}: {error}") from error
    missing = [
        key
        for key, field in fields.items()
        if field.default is dataclasses.MISSING and key not in arguments
    ]
    if missing:
        raise BlurError(f"{name} needs {', '.join(missing)}")
    try:
        return cls(**arguments)
    except BlurError as error:
        raise BlurError(f"{name}: {error}") from error


def _convert(value: object, hint: Any, depth: int) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    if value is None and type(None) in options:
        return None
    if parameters.LogUniform in options:
        return parameters.parse_parameter(value)
    if tuple[Step, ...] in options:
        nodes = value if isinstance(value, list) else [value]
        return tuple(build_step(each, depth + 1) for each in nodes)
    wanted = next(option for option in options if option is not type(None))
    if typing.get_origin(wanted) is typing.Literal:
        words = typing.get_args(wanted)
        if value in words:
            return value
        raise BlurError(f"expected one of {', '.join(words)}, got {value!r}")
    if issubclass(wanted, Step):
        step = build_step(value, depth + 1)
        if isinstance(step, wanted):
            return step
        raise BlurError(f"'{step.name}' does not fit here, which takes one kernel, such as motion")
    if wanted is Path and isinstance(value, str):
        return Path(value).expanduser()
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, wanted) and not (isinstance(value, bool) and wanted is not bool):
        return value
    raise BlurError(f"expected {wanted.__name__}, got {value!r}")
