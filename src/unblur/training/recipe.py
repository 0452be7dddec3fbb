"""Recipe files → `Recipe`: inheritance, overrides from the command line, the quick variant."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from unblur.files import atomic_path, printable
from unblur.models import RestorationModel, create_model
from unblur.models.analysis import summarize
from unblur.padding import padded_length
from unblur.registry import ConfigError, unknown
from unblur.training.config import Recipe
from unblur.yaml_files import read_yaml

_DEEPEST = 10  # recipes based on one another

_QUICK_STEPS, _QUICK_MACS = 2000, 4e13  # minutes of two cores
_ENOUGH_STEPS = 1000  # fewer, of larger batches, teach less
_QUICK_CROP, _QUICK_SIDE, _QUICK_VALIDATION = 96, 64, 32


def read_recipe(path: Path, overrides: Sequence[str] = (), quickly: bool = False) -> Recipe:
    """A recipe from a file and `--section.key value` overrides, which also win over `quickly`.

    `base: other.yaml` in a file takes everything from that file, beside it, which the first does
    not say itself. Raises ConfigError that names what is wrong and what would be valid.
    """
    merged = _merged(path, 0)
    merged.setdefault("name", path.stem)
    _check_keys(merged, Recipe, str(path))
    if not isinstance(merged.get("losses") or {}, Mapping):
        raise ConfigError(f"{path}: losses are written {{name: weight}}")
    overrides = _with_loss_options(merged, list(overrides))
    for word in overrides:
        if word.startswith("--"):
            _check_option(word[2:].partition("=")[0])
    if quickly:
        merged = dataclasses.asdict(quick(_parsed(merged, (), path)))
    return _parsed(merged, overrides, path)


def _parsed(values: dict[str, Any], overrides: Sequence[str], path: Path) -> Recipe:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(Recipe, None, fail_untyped=True)
    parser.add_argument("--config", action=ActionConfigFile)
    try:
        parsed = parser.parse_args(["--config", yaml.safe_dump(values), *overrides])
        built = parser.instantiate(parsed)
    except Exception as error:  # all that argparse and jsonargparse raise says what is wrong
        raise ConfigError(f"{path}: {_readable(str(error))}") from error
    return Recipe(**{field.name: built[field.name] for field in dataclasses.fields(Recipe)})


def _with_loss_options(values: dict[str, Any], overrides: list[str]) -> list[str]:
    """Put --losses.NAME.OPTION VALUE into the recipe's losses; returns the other overrides.

    An option is added to what the recipe says of a loss instead of replacing it.
    """
    others = []
    words = iter(overrides)
    for word in words:
        option, equals, value = word.partition("=")
        parts = option.split(".")
        if len(parts) != 3 or parts[0] != "--losses":
            others.append(word)
            continue
        value = value if equals else next(words, "")
        _opened(_opened(values, "losses"), parts[1])[parts[2]] = _plain(value)
    return others


def _opened(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping under a name. What is absent becomes empty; a loss's number is its weight."""
    known = values.get(name)
    if not isinstance(known, Mapping):
        known = {} if known is None else {"weight": known}
    values[name] = dict(known)
    return values[name]


def _plain(text: str) -> Any:
    """A value of the command line: numbers such as 1e-3, which YAML takes for text, as numbers."""
    try:
        return float(text) if re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", text) else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def overridden(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with some settings, named as optimizer.lr, changed. Raises ConfigError."""
    values = dataclasses.asdict(recipe)
    for name, value in settings.items():
        _check_option(name)
        *path, last = name.split(".")
        section = values
        for part in path:
            section = _opened(section, part)
        section[last] = value
    return _parsed(values, (), Path(recipe.name))


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Every setting under its name on the command line, such as optimizer.lr."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(recipe).items():
        if dataclasses.is_dataclass(getattr(recipe, name)):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting of a recipe, defaults included; `read_recipe` reads it back.

    Raises ConfigError for names that no recipe can hold.
    """
    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)
    if printable(text) != text:
        raise ConfigError("recipes are UTF-8, and a path of its data is not; rename that folder")
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def quick(recipe: Recipe) -> Recipe:
    """The recipe made to end within minutes on two cores: the same network, losses, optimizer and
    schedule, on smaller crops and batches, for at most two thousand steps, in ten epochs.
    """
    data, trainer = recipe.data, recipe.trainer
    network = create_model(recipe.network.name, **recipe.network.options)
    passes = 3.0  # the backward pass costs twice the forward one
    if recipe.adversarial is not None:
        passes += recipe.adversarial.critic_steps
    multiple, least = 1, 1
    if isinstance(network, RestorationModel):
        multiple, least = network.size_multiple, network.min_size
    macs = passes * summarize(network, with_field=False).macs_per_pixel
    pixels = _QUICK_MACS / macs / _ENOUGH_STEPS  # of a step
    crop, resize = data.crop, data.resize
    if crop is None and resize and data.patches is None:
        # Whole images are trained on: they are what has to become smaller.
        factor = min(1.0, _QUICK_SIDE / max(resize))
        resize = [max(32, round(side * factor)) for side in resize]
        batch = min(data.batch_size, 2)
        area = resize[0] * resize[1]
    else:
        side = 32 * int(math.sqrt(pixels / 4) // 32)
        # What the network fills up with a mirror image costs as much and teaches nothing.
        longest = max(_QUICK_CROP, least)
        crop = min(crop or longest, longest, max(side, _QUICK_SIDE, least))
        if resize and data.patches:
            crop = min(crop, *(length // n for length, n in zip(resize, data.patches, strict=True)))
        area = padded_length(crop, multiple, least) ** 2
        batch = min(data.batch_size, 16, max(2, int(pixels / area)))
    batches_a_step = 1 if recipe.adversarial is None else recipe.adversarial.critic_steps
    affordable = int(_QUICK_MACS / (macs * area * batch))
    steps = min(trainer.max_steps or _QUICK_STEPS, _QUICK_STEPS, max(affordable, 40))
    epochs = 10
    # Small images are cheap, and their mean says little when they are few.
    validated = _QUICK_VALIDATION * max(1, min(2, int(_QUICK_CROP**2 / area)))
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}-quick",
        data=dataclasses.replace(
            data,
            crop=crop,
            val_crop=None
            if crop is None
            else min(data.val_crop or crop, max(2 * _QUICK_CROP, least)),
            resize=resize,
            batch_size=batch,
            epoch_length=max(1, steps // epochs) * batch * batches_a_step,
            val_length=min(data.val_length or validated, validated),
            stages=[],
        ),
        schedule=dataclasses.replace(
            recipe.schedule,
            warmup=min(recipe.schedule.warmup, steps // 20),
            start=recipe.schedule.start * epochs // max(trainer.max_epochs, 1),
            every=max(1, recipe.schedule.every * epochs // max(trainer.max_epochs, 1)),
        ),
        trainer=dataclasses.replace(
            trainer,
            max_epochs=epochs,
            max_steps=steps,
            accumulate=1,
            validate_every=1,
            picture_every=5,
            early_stopping=None,
            # A short run at a high rate ends anywhere; the average of its weights does not.
            ema=min(trainer.ema or 1.0, 0.99),
        ),
    )


def _merged(path: Path, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ConfigError(f"{path}: recipes are based on one another in a circle")
    values = read_yaml(path, ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a recipe")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base names another recipe file")
    return _overlaid(_merged(path.parent / base, depth + 1), values)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, except that a recipe's own losses, or another network, replace all."""
    result = dict(below)
    for key, value in above.items():
        if key == "network" and isinstance(value, dict) and "name" in value:
            result[key] = value
        elif key != "losses" and isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _overlaid(result[key], value)
        else:
            result[key] = value
    return result


def _section(hint: Any) -> Any:
    """The dataclass that a field holds, None for plain values and free mappings."""
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)


def _check_keys(values: Mapping[str, Any], cls: Any, place: str) -> None:
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{place}: {unknown('setting', str(key), hints)}")
        section = _section(hints[key])
        if section is not None and isinstance(value, Mapping):
            _check_keys(value, section, f"{place}, {key}")


def _check_option(option: str) -> None:
    cls: Any = Recipe
    for part in option.split("."):
        hints = typing.get_type_hints(cls)
        if part not in hints:
            raise unknown(f"setting '--{option}', no part", part, hints)
        cls = _section(hints[part])
        if cls is None:
            return


def _readable(message: str) -> str:
    """An error of the parser in one line, without its classes."""
    line = " ".join(message.split())
    line = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", line).replace("typing.", "")
    return re.sub(r"^Parser key ", "", line)[:400]
