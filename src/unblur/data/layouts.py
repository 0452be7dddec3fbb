"""Folders on disk → pairs: one reader for every way that deblurring data sets are laid out.

A data set is named `layout:path`, such as `gopro:/data/GOPRO_Large`; `auto:path` or a bare path
finds the layout out. Partners are matched by relative path, never by position in a sorted list.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unblur.data.cifar import is_cifar, read_cifar
from unblur.data.dataset import SUBSETS, Dataset, Pair
from unblur.data.errors import DataError
from unblur.data.manifest import is_prepared, is_unfinished, read_prepared
from unblur.data.mixture import read_entries, read_mixture
from unblur.data.sources import FileSource, is_url
from unblur.imaging import PHOTO_EXTENSIONS

Found = tuple[list[Pair], list[str]]


def images_below(folder: Path) -> list[Path]:
    """All image files in a folder and its sub-folders, sorted; hidden ones are left out."""
    found: list[Path] = []
    visited: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        if real in visited:  # a link to a folder around it
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place) / name for name in files if not name.startswith("."))
        found += [p for p in paths if p.suffix.lower() in PHOTO_EXTENSIONS and p.is_file()]
    return sorted(found)


def _match(blurred: Path, sharp: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """(relative name, blurred, sharp) of the files that both folders have, and what lacks one.

    Extensions may differ between the two.
    """
    sides = []
    for folder in (blurred, sharp):
        side: dict[str, Path] = {}
        for path in images_below(folder):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in side:
                raise DataError(f"{path} and {side[name]}: two files of one name, remove one")
            side[name] = path
        sides.append(side)
    first, second = sides
    problems = [f"{first[n]}: no partner in {sharp}" for n in sorted(first.keys() - second.keys())]
    problems += [
        f"{second[n]}: no partner in {blurred}" for n in sorted(second.keys() - first.keys())
    ]
    return [(n, first[n], second[n]) for n in sorted(first.keys() & second.keys())], problems


def _paired(
    blurred: Path, sharp: Path, prefix: str, subset: str, sequence: Callable[[str], str]
) -> Found:
    """The pairs of two parallel trees; `sequence` makes one of a name relative to them."""
    matched, problems = _match(blurred, sharp)
    pairs = [
        Pair(f"{prefix}{name}", sequence(name), FileSource(s), FileSource(b), subset)
        for name, b, s in matched
    ]
    return pairs, problems


def _folder(prefix: str) -> Callable[[str], str]:
    """The sequence of a name is its folder; a name without one stands alone."""
    return lambda name: prefix + (name.rsplit("/", 1)[0] if "/" in name else name)


def _constantly(sequence: str) -> Callable[[str], str]:
    return lambda _: sequence


def _subsets(root: Path) -> list[tuple[str, Path]]:
    """The subsets that exist below a root; the root itself, nameless, when there is none."""
    found = [(name, root / name) for name in SUBSETS if (root / name).is_dir()]
    if not found and root.name in SUBSETS:
        return [(root.name, root)]
    return found or [("", root)]


def _beside_subsets(root: Path, holds_pairs: Callable[[Path], bool]) -> list[str]:
    """Problems: pairs where nobody looks for them, as there are subsets."""
    if not any((root / name).is_dir() for name in SUBSETS):
        return []
    others = [place for place in _folders(root) if place.name not in SUBSETS]
    return [
        f"{place}: has pairs, but lies beside {', '.join(SUBSETS)}, which alone are read"
        for place in (root, *others)
        if holds_pairs(place)
    ]


def _has_sides(folder: Path, blurred: str, sharp: str) -> bool:
    return (folder / blurred).is_dir() and (folder / sharp).is_dir()


def _folders(place: Path) -> list[Path]:
    return sorted(each for each in place.iterdir() if each.is_dir())


def _gather(parts: Iterable[Found]) -> Found:
    pairs: list[Pair] = []
    problems: list[str] = []
    for some, wrong in parts:
        pairs += some
        problems += wrong
    return pairs, problems


def _gopro(root: Path, kind: str) -> Found:
    def sequences() -> Iterable[Found]:
        for subset, folder in _subsets(root):
            for place in sorted(folder.iterdir()):
                sides = [side for side in (kind, "sharp") if (place / side).is_dir()]
                if len(sides) == 1:
                    missing = "sharp" if sides == [kind] else kind
                    yield [], [f"{place}: has no folder {missing}"]
                elif sides:
                    sequence = place.name
                    yield _paired(
                        place / kind,
                        place / "sharp",
                        f"{sequence}/",
                        subset,
                        _constantly(sequence),
                    )

    def holds_pairs(place: Path) -> bool:
        around = (place, *_folders(place))
        return place != root and any(_has_sides(each, kind, "sharp") for each in around)

    return _gather([*sequences(), ([], _beside_subsets(root, holds_pairs))])


def read_gopro(root: Path) -> Found:
    """GOPRO_Large with linear averages: `{train,test}/SEQUENCE/{blur,sharp}/NNNNNN.png`."""
    return _gopro(root, "blur")


def read_gopro_gamma(root: Path) -> Found:
    """GOPRO_Large with averages through a 2.2 curve: `{train,test}/SEQUENCE/{blur_gamma,sharp}`."""
    return _gopro(root, "blur_gamma")


def _is_gopro(root: Path, kind: str) -> bool:
    return any(
        _has_sides(place, kind, "sharp")
        for _, folder in _subsets(root)
        for place in _folders(folder)
    )


def is_gopro(root: Path) -> bool:
    return _is_gopro(root, "blur")


def is_gopro_gamma(root: Path) -> bool:
    return _is_gopro(root, "blur_gamma")


def _reds_sides(root: Path) -> list[tuple[str, Path, Path]]:
    """(subset, sharp folder, blurred folder) with or without the archives' outer folder."""
    return [
        (subset, base / f"{subset}_sharp", base / f"{subset}_blur")
        for subset in ("train", "val")
        for base in dict.fromkeys((root / subset, root))
        if (base / f"{subset}_sharp").is_dir()
    ]


def read_reds(root: Path) -> Found:
    """REDS: `[train/]train_sharp/SSS/NNNNNNNN.png` and, where there is one, `train_blur`."""

    def sides() -> Iterable[Found]:
        for subset, sharp, blurred in _reds_sides(root):
            prefix = f"{subset}/"
            if blurred.is_dir():
                yield _paired(blurred, sharp, prefix, subset, _folder(prefix))
            else:
                names = [
                    (p, p.relative_to(sharp).with_suffix("").as_posix())
                    for p in images_below(sharp)
                ]
                yield (
                    [
                        Pair(prefix + n, prefix + n.split("/")[0], FileSource(p), None, subset)
                        for p, n in names
                    ],
                    [],
                )

    return _gather(sides())


def is_reds(root: Path) -> bool:
    return bool(_reds_sides(root))


def read_hide(root: Path) -> Found:
    """HIDE: `train/*.png`, `test/{test-close-ups,test-long-shot}/*.png`, sharp ones in `GT`.

    The sequence is the GoPro video that a file's name says it was taken from.
    """
    sharp = {path.name: path for path in images_below(root / "GT")}
    pairs, problems = [], []
    for subset in ("train", "test"):
        for path in images_below(root / subset) if (root / subset).is_dir() else []:
            if path.name not in sharp:
                problems.append(f"{path}: no partner in {root / 'GT'}")
                continue
            video = re.search(r"from(\w+)", path.stem)
            name = path.relative_to(root).with_suffix("").as_posix()
            sequence = video.group(1) if video else name
            pairs.append(
                Pair(name, sequence, FileSource(sharp[path.name]), FileSource(path), subset)
            )
    return pairs, problems


def is_hide(root: Path) -> bool:
    return (root / "GT").is_dir() and any((root / part).is_dir() for part in ("train", "test"))


def read_realblur(root: Path) -> Found:
    """RealBlur: lists of `sharp-path blurred-path` lines, relative to the list's folder.

    The root is one list (`RealBlur_J_test_list.txt`) or a folder with several.
    """
    lists = [root] if root.is_file() else sorted(root.glob("*list*.txt"))
    pairs: dict[str, Pair] = {}
    problems = []
    for listing in lists:
        subset = next((s for s in SUBSETS if s in listing.stem.lower()), "")
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{listing}: cannot be read as a list ({error})") from error
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                continue
            if len(words) < 2:
                raise DataError(f"{listing}, line {number}: needs a sharp and a blurred path")
            sharp, blurred = (_below(listing.parent, word, listing, number) for word in words[:2])
            missing = [path for path in (sharp, blurred) if not path.is_file()]
            if missing:
                problems.append(f"{missing[0]}: named in {listing.name}, line {number}, is missing")
                continue
            # Lists may name files by absolute paths; a pair's name is part of other paths.
            place = Path(os.path.relpath(blurred, listing.parent))
            name, sequence = place.with_suffix("").as_posix(), place.parent.parent.as_posix()
            pairs[name] = Pair(name, sequence, FileSource(sharp), FileSource(blurred), subset)
    return list(pairs.values()), problems


def _below(folder: Path, word: str, listing: Path, number: int) -> Path:
    path = folder / word
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{listing}, line {number}: {word} lies outside the data set")
    return path


def is_realblur(root: Path) -> bool:
    return any(root.glob("RealBlur*list*.txt"))


def read_rsblur(root: Path) -> Found:
    """RSBlur: `SCENE/NNNN/real_blur/real_blur.png` with `SCENE/NNNN/gt/gt_sharp.png`."""
    pairs, problems = [], []
    for blurred in sorted(root.rglob("real_blur/real_blur.png")):
        place = blurred.parent.parent
        sharp = place / "gt" / "gt_sharp.png"
        if not sharp.is_file():
            problems.append(f"{blurred}: no partner {sharp}")
            continue
        name = place.relative_to(root).as_posix()
        scene = name.rsplit("/", 1)[0]
        pairs.append(Pair(name, scene, FileSource(sharp), FileSource(blurred)))
    return pairs, problems


def is_rsblur(root: Path) -> bool:
    return next(root.rglob("real_blur/real_blur.png"), None) is not None


_FLAT = (("blur", "sharp"), ("input", "target"))


def read_flat(root: Path) -> Found:
    """Two parallel trees, `[train|test|val/]{blur,sharp}` or `{input,target}`.

    The folder that an image lies in below them is its sequence; images without one stand alone.
    """

    def sides() -> Iterable[Found]:
        for subset, folder in _subsets(root):
            for blurred, sharp in _FLAT:
                sides = [side for side in (blurred, sharp) if (folder / side).is_dir()]
                if len(sides) == 1:
                    missing = sharp if sides == [blurred] else blurred
                    yield [], [f"{folder}: has no folder {missing}"]
                elif sides:
                    prefix = f"{subset}/" if subset else ""
                    yield _paired(
                        folder / blurred,
                        folder / sharp,
                        prefix,
                        subset,
                        _folder(prefix),
                    )

    return _gather([*sides(), ([], _beside_subsets(root, _holds_sides))])


def is_flat(root: Path) -> bool:
    return any(_holds_sides(folder) for _, folder in _subsets(root))


def _holds_sides(folder: Path) -> bool:
    return any(_has_sides(folder, *sides) for sides in _FLAT)


def read_sharp(root: Path) -> Found:
    """Sharp photos only, in a folder tree, with the authors' subsets as its first level if any.

    A sub-folder whose files are all numbered alike, with leading zeros (00000000.png,
    frame_0003.png), holds the frames of one sequence; other photos stand alone.
    """
    paths = images_below(root)
    loose = {path.parent for path in paths if not re.fullmatch(r"\D*\d+", path.stem)}
    widths: dict[Path, set[int]] = {}
    for path in paths:
        widths.setdefault(path.parent, set()).add(len(path.stem))
    padded = {path.parent for path in paths if re.fullmatch(r"\D*0\d+", path.stem)}
    stems = Counter(path.with_suffix("") for path in paths)
    pairs = []
    for path in paths:
        # Of a.png and a.jpg both keep their extension, but they show the same.
        alone = path.with_suffix("").relative_to(root).as_posix()
        name = alone if stems[path.with_suffix("")] == 1 else path.relative_to(root).as_posix()
        folder = path.parent
        is_frame = folder in padded and folder not in loose and len(widths[folder]) == 1
        sequence = name.rsplit("/", 1)[0] if is_frame and folder != root else alone
        first = name.split("/")[0]
        subset = first if first in SUBSETS and "/" in name else ""
        pairs.append(Pair(name, sequence, FileSource(path), subset=subset))
    return pairs, []


def read_image(root: Path) -> Found:
    """A single sharp image file."""
    return [Pair(root.stem, root.stem, FileSource(root))], []


# In the order of detection: the particular before the general.
LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Found]]] = {
    "prepared": (is_prepared, read_prepared),
    "gopro": (is_gopro, read_gopro),
    "gopro_gamma": (is_gopro_gamma, read_gopro_gamma),
    "reds": (is_reds, read_reds),
    "hide": (is_hide, read_hide),
    "realblur": (is_realblur, read_realblur),
    "rsblur": (is_rsblur, read_rsblur),
    "cifar": (is_cifar, read_cifar),
    "flat": (is_flat, read_flat),
    "sharp": (lambda root: next(iter(images_below(root)), None) is not None, read_sharp),
    "image": (lambda _: False, read_image),
}
# Read by `open_dataset` itself, as it names other data sets.
MIX = "mix"
_FILE_LAYOUTS = {".txt": "realblur", ".yaml": MIX, ".yml": MIX}
_DEEPEST = 5  # mixtures of mixtures


def detect(root: Path) -> str:
    """The layout of a path. Raises DataError when it looks like none."""
    if is_unfinished(root):
        raise DataError(f"{root}: is not finished; call the command that makes it again")
    if root.is_file():
        return _FILE_LAYOUTS.get(root.suffix.lower(), "image")
    for name, (looks_like, _) in LAYOUTS.items():
        if looks_like(root):
            return name
    raise DataError(f"{root}: holds no images in any known layout ({', '.join(LAYOUTS)})")


def open_dataset(
    spec: str | Path | Sequence[Mapping[str, Any]], root: Path = Path(), depth: int = 0
) -> Dataset:
    """The data set named `layout:path`, `auto:path` or by a bare path, or a list of parts.

    root: what relative paths start from. A list has parts as a `mix` file lists them; depth: of
    mixtures around this one.
    Its problems are listed in it, not raised; `require_healthy` raises them. Raises DataError for
    a path that is not there, an unknown layout, or a layout without a single image.
    """
    if depth > _DEEPEST:
        raise DataError(f"{spec}: mixtures hold one another more than {_DEEPEST} deep")
    if not isinstance(spec, str | Path):
        return _mixed(MIX, spec, root, depth)
    layout, rest = _parse_spec(str(spec))
    if is_url(rest):
        if layout not in ("prepared", "auto"):
            raise DataError(f"{rest}: only prepared data sets and shards can be read by URL")
        pairs, problems = read_prepared(rest)
        return Dataset(f"prepared:{rest}", "prepared", _ordered(pairs), tuple(problems))
    place = root / Path(rest).expanduser()
    if not place.is_file() and not place.is_dir():
        raise DataError(f"{place}: no such file or folder")
    if layout == "auto":
        layout = detect(place)
    if place.is_file() and layout not in ("image", *_FILE_LAYOUTS.values()):
        raise DataError(f"{place}: is a file, but the layout {layout} is a folder")
    if place.is_dir() and layout in ("image", MIX):
        raise DataError(f"{place}: is a folder; name the file itself, or use sharp:{place}")
    if layout == "prepared" and not is_prepared(place):
        raise DataError(f"{place}: is no prepared data set{_instead(place, layout)}")
    if layout == MIX:
        return _mixed(f"{MIX}:{place}", read_entries(place), root, depth)
    pairs, problems = LAYOUTS[layout][1](place)
    if not pairs:
        why = "".join(f"; {problem}" for problem in problems[:2])
        raise DataError(
            f"{place}: has no pairs in the layout {layout}{_instead(place, layout)}{why}"
        )
    problems = [*problems, *_doubled(pairs)]
    return Dataset(f"{layout}:{place}", layout, _ordered(pairs), tuple(problems), (place,))


def _parse_spec(text: str) -> tuple[str, str]:
    """(layout or `auto`, path or URL)."""
    if is_url(text):
        return "auto", text
    layout, separator, rest = text.partition(":")
    if not separator or layout not in {*LAYOUTS, MIX, "auto"}:
        if separator and re.fullmatch(r"[A-Za-z_-]{2,}", layout) and not Path(text).exists():
            known = ", ".join([*LAYOUTS, MIX, "auto"])
            raise DataError(f"unknown layout '{layout}' in '{text}': one of {known}")
        layout, rest = "auto", text
    if not rest:
        raise DataError(f"'{text}' names no path; write . for this folder")
    return layout, rest


def _mixed(spec: str, entries: Sequence[Mapping[str, Any]], root: Path, depth: int) -> Dataset:
    def open_part(part: str) -> Dataset:
        return open_dataset(part, root, depth + 1)

    pairs, problems, roots = read_mixture(entries, spec.removeprefix("mix:"), open_part)
    if not pairs:
        raise DataError(f"{spec}: lists no data set")
    return Dataset(spec, MIX, _ordered(pairs), tuple(problems), tuple(roots))


def _doubled(pairs: list[Pair]) -> list[str]:
    """Images that share a name, of which only one would survive in what is made of them."""
    seen: dict[str, Pair] = {}
    problems = []
    for pair in pairs:
        if pair.name in seen:
            other = seen[pair.name].sharp.label
            problems.append(f"{pair.sharp.label}: has the same name, {pair.name}, as {other}")
        seen[pair.name] = pair
    return problems


def _ordered(pairs: list[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: pair.name))


def _instead(root: Path, layout: str) -> str:
    try:
        found = detect(root)
    except DataError:
        return "; it holds no images at all"
    return f"; it looks like {found}" if found != layout else ""


def require_healthy(dataset: Dataset) -> Dataset:
    """The data set, or DataError naming its first problems."""
    if dataset.problems:
        shown = "; ".join(dataset.problems[:3])
        more = len(dataset.problems) - 3
        rest = f"; and {more} more (see `unblur data check`)" if more > 0 else ""
        raise DataError(f"{dataset.spec}: {shown}{rest}")
    return dataset
