"""Parameters of a blur: fixed numbers, or distributions drawn from anew for every photo."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unblur.blur.errors import BlurError


@dataclass(frozen=True)
class LogUniform:
    """Between two positive numbers, uniform in the logarithm: as often in 1…2 as in 10…20."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """One of several numbers, all equally likely."""

    values: tuple[float, ...]


# A number is itself, a pair of numbers is uniform between them.
Parameter = float | tuple[float, float] | LogUniform | Choice


def draw(parameter: Parameter, rng: np.random.Generator) -> float:
    """A number from the distribution; a fixed parameter draws nothing from `rng`."""
    if isinstance(parameter, tuple):
        return float(rng.uniform(*parameter))
    if isinstance(parameter, LogUniform):
        return float(np.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high))))
    if isinstance(parameter, Choice):
        return float(parameter.values[int(rng.integers(len(parameter.values)))])
    return float(parameter)


def draw_count(parameter: Parameter, rng: np.random.Generator) -> int:
    """A whole number from the distribution; between two, all are equally likely."""
    if isinstance(parameter, tuple):
        low, high = math.ceil(parameter[0]), math.floor(parameter[1])
        return int(rng.integers(low, max(low, high) + 1))
    return round(draw(parameter, rng))


def bounds(parameter: Parameter) -> tuple[float, float]:
    """The smallest and the largest number that can be drawn."""
    if isinstance(parameter, tuple):
        return parameter
    if isinstance(parameter, LogUniform):
        return parameter.low, parameter.high
    if isinstance(parameter, Choice):
        return min(parameter.values), max(parameter.values)
    return parameter, parameter


def require(
    owner: object, name: str, low: float = -math.inf, high: float = math.inf, odd: bool = False
) -> None:
    """Raise BlurError unless all that `owner.name` can draw lies in [low, high] (and is odd)."""
    parameter: Parameter = getattr(owner, name)
    if isinstance(parameter, Choice) and not parameter.values:
        raise BlurError(f"{name} has no values to choose from")
    first, last = bounds(parameter)
    if not all(map(math.isfinite, (first, last))):
        raise BlurError(f"{name} must be a finite number")
    if not first <= last:
        raise BlurError(f"{name}: {first} is larger than {last}")
    if isinstance(parameter, LogUniform) and first <= 0:
        raise BlurError(f"{name}: a logarithmic range needs positive numbers, got {first:g}")
    if not (low <= first and last <= high):
        wanted = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise BlurError(f"{name} must be {wanted}, got {first if first < low else last:g}")
    values = parameter.values if isinstance(parameter, Choice) else (first, last)
    if odd and any(value % 2 != 1 for value in values):
        raise BlurError(f"{name} must be odd, got {', '.join(f'{value:g}' for value in values)}")


def _number(value: object) -> float:
    parsed = parse_parameter(value)
    if not isinstance(parsed, float):
        raise BlurError(f"expected a number, got {value!r}")
    return parsed


def parse_parameter(value: object) -> Parameter:
    """A parameter as YAML has it: 3, [1, 3], {log: [1, 30]} or {choice: [3, 5]}."""
    match value:
        case bool():
            pass
        case int() | float() if math.isfinite(value):
            return float(value)
        case str():  # such as 1e-3, which YAML takes for text
            with contextlib.suppress(ValueError):
                if math.isfinite(number := float(value)):
                    return number
        case [low, high]:
            return _number(low), _number(high)
        case Mapping() if list(value) == ["log"]:
            inner = value["log"]
            if isinstance(inner, list) and len(inner) == 2:
                return LogUniform(_number(inner[0]), _number(inner[1]))
        case Mapping() if list(value) == ["choice"] and isinstance(value["choice"], list):
            return Choice(tuple(_number(each) for each in value["choice"]))
    raise BlurError(
        f"expected a number, [low, high], {{log: [low, high]}} or {{choice: [a, b]}}, got {value!r}"
    )
