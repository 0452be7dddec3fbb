"""Many files: which input goes to which output, one after another, a bad one harming no other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unblur.imaging import (
    DEFAULT_MAX_PIXELS,
    PHOTO_EXTENSIONS,
    Format,
    ImageError,
    comparison,
    format_of,
    output_format,
    read_photo,
    write_photo,
)
from unblur.inference.deblurrer import Deblurrer

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts"}
)


class UsageError(Exception):
    """Inputs and options that contradict each other; nothing has been done yet."""


@dataclass(frozen=True)
class Job:
    """One file to restore. `output` lacks an extension's last word until the file is read."""

    source: Path
    output: Path
    fixed_output: bool = False  # named by the user, so its extension stands


@dataclass(frozen=True)
class Options:
    """How every file of a batch is treated."""

    strength: float = 1.0
    compare: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    format: Format | None = None
    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class Result:
    """What became of one file; status is "ok", "skipped" or "failed"."""

    input: str
    output: str | None
    status: str
    model: str
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    comparison: str | None = None
    error: str | None = None

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


def sharp_name(source: Path, format_name: str | None = None) -> str:
    """The name of the restored copy beside a file: `<stem>_sharp.<ext>`."""
    return f"{source.stem}_sharp{_extension(source, format_name)}"


def _extension(source: Path, format_name: str | None, wanted: Format | None = None) -> str:
    """The source's own extension where it fits what is written, else the written format's."""
    written = wanted or output_format(format_name or format_of(source) or "PNG")
    return source.suffix if format_of(source) == written.name else written.extension


def plan_jobs(
    inputs: Sequence[Path], output: str | Path | None = None, recursive: bool = True
) -> tuple[list[Job], list[Path]]:
    """The jobs for files and folders, and the files in folders that are no photos.

    A file goes to `<stem>_sharp.<ext>` beside it or to `output`; a folder to `<folder>_sharp/` or
    `output`, its sub-folders mirrored. Several inputs need a folder as `output`, in which several
    folders keep their names. Raises UsageError.
    """
    if not inputs:
        raise UsageError("name at least one photo or folder")
    for path in inputs:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    folders = [path for path in inputs if path.is_dir()]
    names_folder = output is not None and str(output).endswith(os.sep)
    output = None if output is None else Path(output)
    into_folder = output is not None and (
        len(inputs) > 1 or bool(folders) or output.is_dir() or names_folder
    )
    if output is not None and into_folder and output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, but several results need a folder")
    jobs: list[Job] = []
    others: list[Path] = []
    for path in inputs:
        if path in folders:
            target = (
                output
                if output is not None
                else path.resolve().with_name(f"{path.resolve().name}_sharp")
            )
            if output is not None and len(folders) > 1:
                target = output / path.resolve().name
            found, unknown = _scan(path, target, recursive)
            jobs += found
            others += unknown
        elif output is None:
            jobs.append(Job(path, path.with_name(sharp_name(path))))
        elif into_folder:
            jobs.append(Job(path, output / path.name))
        else:
            if format_of(output) is None:
                raise UsageError(
                    f"{output}: end it in a photo's extension (such as .jpg or .png), or in "
                    f"{os.sep} to make a folder"
                )
            jobs.append(Job(path, output, fixed_output=True))
    return jobs, others


def _scan(folder: Path, target: Path, recursive: bool) -> tuple[list[Job], list[Path]]:
    jobs: list[Job] = []
    others: list[Path] = []
    inside = target.resolve()
    for place, names, files in os.walk(folder):
        # An output folder inside the input must not be fed to itself.
        names[:] = sorted(
            name
            for name in names
            if recursive and not name.startswith(".") and (Path(place) / name).resolve() != inside
        )
        for file in sorted(files):
            path = Path(place) / file
            if file.startswith("."):
                continue
            if path.suffix.lower() in PHOTO_EXTENSIONS:
                jobs.append(Job(path, target / path.relative_to(folder)))
            else:
                others.append(path)
    return jobs, others


def run_jobs(
    jobs: Iterable[Job],
    deblurrer: Deblurrer,
    options: Options,
    progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Result]:
    """Restore file after file and yield what became of each, in order."""
    written: dict[Path, Path] = {}
    for job in jobs:
        began = time.perf_counter()
        try:
            result = _run(job, deblurrer, options, written, progress)
        except (ImageError, MemoryError, OSError, ValueError) as error:
            result = Result(
                str(job.source),
                None,
                "failed",
                deblurrer.card.name,
                seconds=round(time.perf_counter() - began, 3),
                error=str(error) or type(error).__name__,
            )
        yield result


def _run(
    job: Job,
    deblurrer: Deblurrer,
    options: Options,
    written: dict[Path, Path],
    progress: Callable[[Job, float], None] | None,
) -> Result:
    if job.source.suffix.lower() in VIDEO_EXTENSIONS:
        raise ImageError(f"{job.source}: videos are not supported yet, only photos")
    began = time.perf_counter()
    output = _with_extension(job, format_of(job.source), options)
    if options.skip_existing and output.exists():
        return Result(str(job.source), str(output), "skipped", deblurrer.card.name)
    _check_target(job, output, written, options)
    photo = read_photo(job.source, options.max_pixels)
    renamed = _with_extension(job, photo.format, options)
    if renamed != output:  # a file without a telling extension
        output = renamed
        _check_target(job, output, written, options)
    restored = deblurrer.restore_photo(
        photo, options.strength, None if progress is None else lambda share: progress(job, share)
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_photo(restored, output, options.quality, options.overwrite)
    written[output.resolve()] = job.source
    compared = None
    if options.compare:
        compared = output.with_name(f"{output.stem}_compare.jpg")
        write_photo(comparison(photo, restored), compared, overwrite=True)
    return Result(
        str(job.source),
        str(output),
        "ok",
        deblurrer.card.name,
        photo.width,
        photo.height,
        round(time.perf_counter() - began, 3),
        str(compared) if compared else None,
    )


def _with_extension(job: Job, format_name: str | None, options: Options) -> Path:
    if job.fixed_output:
        return job.output
    return job.output.with_suffix(_extension(job.source, format_name, options.format))


def _check_target(job: Job, output: Path, written: dict[Path, Path], options: Options) -> None:
    if output.resolve() == job.source.resolve():
        raise ImageError(f"{job.source}: the result would replace the input; choose another -o")
    if (other := written.get(output.resolve())) is not None:
        raise ImageError(f"{job.source}: its result {output} was just written for {other}")
    if output.exists() and not options.overwrite:
        raise ImageError(
            f"{output}: exists already; use --overwrite to replace or --skip-existing to keep it"
        )
