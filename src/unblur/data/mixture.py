"""Several data sets as one, each with a weight: the layout `mix`, a YAML file that lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unblur.blur import BlurError, build_degradation
from unblur.data.dataset import Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.transforms import averaged, of_sequences, without_blurred
from unblur.registry import ConfigError
from unblur.yaml_files import read_yaml

_KEYS = {"data", "weight", "blurred", "frames", "sequences"}


def read_mixture(
    entries: Sequence[Mapping[str, Any]], place: str, open_part: Callable[[str], Dataset]
) -> tuple[list[Pair], list[str], list[Path]]:
    """The pairs, problems and folders of all parts of a list such as, in YAML,

        - {data: gopro:/data/GOPRO_Large, weight: 3}
        - {data: gopro:/data/GOPRO_Large, blurred: false}    # its sharp frames, blurred anew
        - {data: sharp:/data/240fps, frames: {window: [7, 13], stride: 4}}

    weight: how often the part is drawn, as a whole, whatever its number of images; 1 by default.
    sequences: only these of the part; the last part of a name will do.
    blurred: false to leave out the blurred partners.
    frames: averages the part's sequences, as the blur step of that name.
    place: what messages call the list. Sequences of one name count as one sequence, so
    that a split keeps the same video together, wherever it appears.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    roots: list[Path] = []
    for number, entry in enumerate(entries, 1):
        part = _part(entry, f"{place}, entry {number}", open_part)
        # A mixture in a mixture shares its weight among its own parts.
        inner = {pair.part: pair.weight for pair in part.pairs}
        share = float(entry.get("weight", 1)) / sum(inner.values())
        pairs += [
            replace(
                pair,
                name=f"{number}/{pair.name}",
                part=f"{number}/{pair.part}",
                weight=share * pair.weight,
            )
            for pair in part.pairs
        ]
        problems += part.problems
        roots += part.roots
    return pairs, problems, roots


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The list in a `mix` file; its paths are relative to the working directory."""
    entries = read_yaml(path, DataError)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: must list data sets, such as - {{data: gopro:/path, weight: 2}}")
    return entries


def _part(entry: Mapping[str, Any], place: str, open_part: Callable[[str], Dataset]) -> Dataset:
    if unknown := entry.keys() - _KEYS:
        raise DataError(f"{place}: unknown key '{min(unknown)}': {', '.join(sorted(_KEYS))}")
    spec, weight = entry.get("data"), entry.get("weight", 1)
    if not isinstance(spec, str):
        raise DataError(f"{place}: needs data: layout:path")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise DataError(f"{place}: the weight must be a positive number, got {weight!r}")
    part = open_part(spec)
    names = entry.get("sequences")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(n, str | int) for n in names):
            raise DataError(f"{place}: sequences is a list of names, got {names!r}")
        try:
            part = of_sequences(part, [str(name) for name in names])
        except ConfigError as error:
            raise DataError(f"{place}: {error}") from error
    if not isinstance(entry.get("blurred", True), bool):
        raise DataError(f"{place}: blurred is true or false, got {entry['blurred']!r}")
    if entry.get("blurred") is False:
        part = without_blurred(part)
    if "frames" in entry:
        try:
            frames = build_degradation([{"frames": entry["frames"]}, "none"]).frames
        except BlurError as error:
            raise DataError(f"{place}: {error}") from error
        assert frames is not None  # noqa: S101
        part = averaged(part, frames)
    return part
