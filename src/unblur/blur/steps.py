"""What every way of spoiling a photo shares, and how steps are put together.

A `Step` is a description with random parameters. `draw` makes every random choice and returns a
`Drawn` step, which does the same to any photo, as often as it is called. Steps work on photos as
H×W×C float32 arrays or tensors, values in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Any, ClassVar, TypeVar

import numpy as np

from unblur.blur.arrays import Image, namespace
from unblur.blur.convolution import linear_to_srgb, srgb_to_linear
from unblur.blur.errors import BlurError
from unblur.blur.kernels import Kernel

Record = dict[str, Any]

# What comes of a kernel and one of these is no longer a convolution.
_NOT_CONVOLUTIONS = {"resize", "sharpen", "saturation"}


def unchanged(image: Image) -> Image:
    """What a step does that does nothing."""
    return image


@dataclass(frozen=True)
class Drawn:
    """A step with every random choice made.

    apply: H×W×C → H×W×C of the same size.
    records: what was drawn, ready for JSON, one entry per step.
    kernels: those that were drawn, in order.
    reach: how many pixels away a pixel's surroundings can matter to it.
    uniform: whether each kernel acts alike on the whole photo.
    sharp: what of it belongs to the sharp photo itself; nothing, unless there is a `keep`.
    """

    apply: Callable[[Image], Image]
    records: tuple[Record, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    reach: int = 0
    uniform: bool = True
    sharp: Callable[[Image], Image] = unchanged

    def __call__(self, image: Image) -> Image:
        return self.apply(image)

    @property
    def target(self) -> Drawn:
        """What makes the photo that the spoiled one should become again."""
        return Drawn(self.sharp)

    @property
    def kernel(self) -> Kernel | None:
        """The one kernel that made the whole blur; None where there is no such kernel."""
        steps = {record.get("step") for record in flat_records(self.records)}
        alone = len(self.kernels) == 1 and self.uniform and not steps & _NOT_CONVOLUTIONS
        return self.kernels[0] if alone else None


def flat_records(records: Sequence[Record]) -> list[Record]:
    """Records of steps and of the steps within them."""
    flat: list[Record] = []
    for record in records:
        flat.append(record)
        flat += flat_records(record.get("steps", []))
    return flat


class Step(ABC):
    """One way of spoiling a photo; a subclass is a frozen dataclass of its parameters."""

    name: ClassVar[str]

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Drawn:
        """Make every random choice."""

    def alternatives(self) -> list[Step]:
        """The steps that this one chooses from, such as each kernel of a folder; else itself."""
        return [self]


STEPS: dict[str, type[Step]] = {}
_Class = TypeVar("_Class", bound=type[Step])


def register(name: str) -> Callable[[_Class], _Class]:
    """Give a step the name that presets and specs call it by."""

    def add(cls: _Class) -> _Class:
        cls.name = name
        STEPS[name] = cls
        return cls

    return add


def chain(drawn: Sequence[Drawn]) -> Drawn:
    """Several drawn steps as one, each working on the result of the one before."""
    if len(drawn) == 1:
        return drawn[0]

    return Drawn(
        _one_after_another([step.apply for step in drawn]),
        sum((step.records for step in drawn), ()),
        sum((step.kernels for step in drawn), ()),
        sum(step.reach for step in drawn),
        all(step.uniform for step in drawn),
        _one_after_another([step.sharp for step in drawn]),
    )


def _one_after_another(functions: Sequence[Callable[[Image], Image]]) -> Callable[[Image], Image]:
    needed = [function for function in functions if function is not unchanged]
    if not needed:
        return unchanged
    return lambda image: reduce(lambda current, function: function(current), needed, image)


@register("none")
@dataclass(frozen=True)
class Unchanged(Step):
    """Leaves the photo as it is; an alternative among others."""

    def draw(self, rng: np.random.Generator) -> Drawn:
        return Drawn(unchanged, ({"step": self.name},))


@register("sequence")
@dataclass(frozen=True)
class Sequential(Step):
    """Steps one after another."""

    steps: tuple[Step, ...]

    def draw(self, rng: np.random.Generator) -> Drawn:
        return chain([step.draw(rng) for step in self.steps])

    def alternatives(self) -> list[Step]:
        combinations = product(*(step.alternatives() for step in self.steps))
        return [replace(self, steps=steps) for steps in combinations]


@register("shuffled")
@dataclass(frozen=True)
class Shuffled(Step):
    """Steps one after another, in an order drawn anew each time.

    After X. Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure
    synthetic data", ICCV workshops 2021, and K. Zhang et al., "Designing a practical degradation
    model for deep blind image super-resolution", ICCV 2021.
    """

    steps: tuple[Step, ...]

    def draw(self, rng: np.random.Generator) -> Drawn:
        order = rng.permutation(len(self.steps))
        return chain([self.steps[index].draw(rng) for index in order])


@register("one_of")
@dataclass(frozen=True)
class OneOf(Step):
    """One of several steps; all are equally likely without weights."""

    steps: tuple[Step, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise BlurError("one_of needs at least one step")
        if self.weights is not None and (
            len(self.weights) != len(self.steps)
            or not all(0 <= weight < math.inf for weight in self.weights)
            or sum(self.weights) <= 0
        ):
            raise BlurError("one_of needs a weight for each step, none negative, not all zero")

    def draw(self, rng: np.random.Generator) -> Drawn:
        weights = self.weights or (1.0,) * len(self.steps)
        chances = np.asarray(weights) / sum(weights)
        return self.steps[int(rng.choice(len(self.steps), p=chances))].draw(rng)

    def alternatives(self) -> list[Step]:
        return [each for step in self.steps for each in step.alternatives()]


@register("sometimes")
@dataclass(frozen=True)
class Sometimes(Step):
    """Steps that happen with a probability, all or none of them."""

    chance: float
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise BlurError(f"chance must be between 0 and 1, got {self.chance:g}")

    def draw(self, rng: np.random.Generator) -> Drawn:
        happens = rng.random() < self.chance
        return chain([step.draw(rng) for step in self.steps]) if happens else Drawn(unchanged)


@register("keep")
@dataclass(frozen=True)
class Keep(Sequential):
    """Steps that belong to the sharp photo itself and should stay: the sharp one has them, too.

    Such as the noise of a photo that is not blurred.
    """

    def draw(self, rng: np.random.Generator) -> Drawn:
        inner = super().draw(rng)
        record = {"step": self.name, "steps": list(inner.records)}
        return Drawn(inner.apply, (record,), (), inner.reach, inner.uniform, inner.apply)


@register("linear_light")
@dataclass(frozen=True)
class LinearLight(Sequential):
    """Steps that happen to light, before the camera turns it into code values.

    gamma: the exponent of the camera's curve; sRGB's own curve when None. What has become brighter
    than white, or darker than black, is clipped afterwards, as a sensor does.
    """

    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.gamma is not None and not 1 <= self.gamma <= 4:
            raise BlurError(f"gamma must be between 1 and 4, got {self.gamma:g}")

    def draw(self, rng: np.random.Generator) -> Drawn:
        inner = super().draw(rng)
        record = {"step": self.name, "gamma": self.gamma or "srgb", "steps": list(inner.records)}
        apply, sharp = self._in_light(inner.apply), self._in_light(inner.sharp)
        return Drawn(apply, (record,), inner.kernels, inner.reach, inner.uniform, sharp)

    def _in_light(self, function: Callable[[Image], Image]) -> Callable[[Image], Image]:
        gamma = self.gamma
        if function is unchanged:
            return unchanged
        if gamma is None:
            return lambda image: linear_to_srgb(function(srgb_to_linear(image)))

        def with_gamma(image: Image) -> Image:
            clip = namespace(image).clip
            return clip(function(clip(image, 0, 1) ** gamma), 1e-9, 1) ** (1 / gamma)

        return with_gamma
