"""Names → networks: every architecture is registered once and built by `create_model`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=type[nn.Module])

_architectures: dict[str, type[nn.Module]] = {}


class ConfigError(ValueError):
    """A name or an option that does not exist, or a value that a network cannot have."""


def unknown(what: str, name: str, valid: Iterable[str]) -> ConfigError:
    """The error for an unknown name: says what was meant, perhaps, and lists what there is."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return ConfigError(f"unknown {what} '{name}'.{hint} Valid: {', '.join(names) or 'none'}.")


def register(name: str) -> Callable[[Network], Network]:
    """Class decorator that puts a network into the registry under a snake_case name."""

    def add(architecture: Network) -> Network:
        if name in _architectures:
            raise ValueError(f"two networks are called '{name}'")
        _architectures[name] = architecture
        return architecture

    return add


def list_models() -> list[str]:
    """The names of all architectures, sorted."""
    return sorted(_architectures)


def architectures() -> list[tuple[str, type[nn.Module]]]:
    """All registered (name, class) pairs, sorted by name."""
    return sorted(_architectures.items())


def model_options(name: str) -> dict[str, Any]:
    """The options of an architecture with their defaults."""
    if name not in _architectures:
        raise unknown("model", name, _architectures)
    parameters = inspect.signature(_architectures[name].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self"}


def create_model(name: str, **options: Any) -> nn.Module:
    """Build a network with fresh weights.

    Restoration networks map N×3×H×W to N×3×H×W of any size. Raises ConfigError, which lists the
    valid names, for an unknown architecture or option.
    """
    valid = model_options(name)
    for option in options:
        if option not in valid:
            raise unknown(f"option of {name}", option, valid)
    try:
        return _architectures[name](**options)
    except ConfigError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
        # torch's own words for a width of zero or a depth that is no number
        shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ConfigError(f"{name} cannot be built with {shown} ({error})") from error
