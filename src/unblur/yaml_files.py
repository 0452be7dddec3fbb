"""Reads the YAML files that users write or are given: recipes, suites, mixtures, spaces, blur."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LONGEST_FILE = 1_000_000  # bytes


class _WithoutAliases(yaml.SafeLoader):
    """Refuses references, by which a few lines could describe billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("anchors and aliases are not supported here")
        return super().compose_node(parent, index)


def read_yaml(path: Path, error: type[Exception], longest: int = _LONGEST_FILE) -> Any:
    """What a file of at most `longest` bytes holds, in plain values.

    Raises `error` with one line for users that names the file.
    """
    try:
        if path.stat().st_size > longest:
            raise error(f"{path}: is too large for a file of settings")
        return yaml.load(path.read_text(encoding="utf-8"), _WithoutAliases)  # noqa: S506  (safe)
    except error:
        raise
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        raise error(f"{path}: is not YAML ({' '.join(str(cause).split())})") from cause
