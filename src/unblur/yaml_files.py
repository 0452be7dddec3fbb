"""Reads the YAML files that users write or are given: recipes, suites, mixtures, spaces, blur."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LONGEST_FILE = 1_000_000  # bytes


class YamlError(Exception):
    """A file that cannot be read as YAML; the message is one line for users and names it."""


class _WithoutAliases(yaml.SafeLoader):
    """Refuses references, by which a few lines could describe billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not supported here")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """What a file holds, in plain values. Raises YamlError."""
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise YamlError(f"{path}: is too large for a file of settings")
        return yaml.load(path.read_text(encoding="utf-8"), _WithoutAliases)  # noqa: S506  (safe)
    except OSError as error:
        raise YamlError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
