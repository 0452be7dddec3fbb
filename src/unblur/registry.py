"""Names → classes, for what recipes and command lines call by name, and errors that list them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

Base = TypeVar("Base")
Class = TypeVar("Class", bound="type[Any]")


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}  # of options
# torch's own words for a width of zero or a negative depth
_TORCH_ERRORS = (
    TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError,
)  # fmt: skip


class ConfigError(ValueError):
    """A name or an option that does not exist, or a value that it cannot have."""


def unknown(what: str, name: str, valid: Iterable[str]) -> ConfigError:
    """The error for an unknown name: says what was meant, perhaps, and lists what there is."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return ConfigError(f"unknown {what} '{name}'.{hint} Valid: {', '.join(names) or 'none'}.")


class Registry(Generic[Base]):
    """Classes of one kind by snake_case names; `what` is what messages call the kind."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._classes: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[Class], Class]:
        """Class decorator that gives a class its name."""

        def add(cls: Class) -> Class:
            if name in self._classes:
                raise ValueError(f"there are two {self.what}s called '{name}'")
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._classes)

    def items(self) -> list[tuple[str, type[Base]]]:
        """All (name, class) pairs, sorted by name."""
        return sorted(self._classes.items())

    def options(self, name: str) -> dict[str, Any]:
        """The options of a class with their defaults. Raises ConfigError for an unknown name."""
        if name not in self._classes:
            raise unknown(self.what, name, self._classes)
        parameters = inspect.signature(self._classes[name].__init__).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        return {p.name: p.default for p in named if p.name != "self"}

    def create(self, name: str, **options: Any) -> Base:
        """An instance. Raises ConfigError, which lists what is valid, for what does not exist."""
        valid = self.options(name)
        for option, value in options.items():
            if option not in valid:
                raise unknown(f"option of {name}", option, valid)
            kind = type(valid[option])
            if kind in _KINDS and not (
                type(value) is kind or (kind is float and type(value) is int)
            ):
                raise ConfigError(f"{name}: {option} takes {_KINDS[kind]}, not {value!r}")
        try:
            return self._classes[name](**options)
        except ConfigError:
            raise
        except _TORCH_ERRORS as error:
            shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
            raise ConfigError(f"{name} cannot be built with {shown} ({error})") from error
