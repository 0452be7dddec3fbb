"""Many files: which input goes to which output, several at a time, a bad one harming no other."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unblur.files import atomic_path
from unblur.hardware import cores
from unblur.imaging import (
    DEFAULT_MAX_PIXELS,
    FORMATS,
    PHOTO_EXTENSIONS,
    Format,
    ImageError,
    Photo,
    comparison,
    format_of,
    output_format,
    parse_format,
    probe_size,
    read_photo,
    require_writable,
    stem_of,
    write_photo,
)
from unblur.imaging.animation import encode_animation, is_animation, read_animation
from unblur.imaging.video import is_video
from unblur.inference.card import ModelError
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.judgement import Verdict, judge
from unblur.inference.video import VideoOptions, restore_video

_MOST_PIXELS = 60_000_000  # in work at a time, some 25 bytes a pixel
_LOOKED_AT = 50  # photos of a batch, to tell how large they are


class UsageError(Exception):
    """Inputs and options that contradict each other; nothing has been done yet."""


@dataclass(frozen=True)
class Job:
    """One file to restore into `folder`, as `stem` and the extension of what is written."""

    source: Path
    folder: Path
    stem: str
    extension: str | None = None  # named by the user, so it stands


@dataclass(frozen=True)
class Plan:
    """What a batch will do.

    ignored: files in folders that are no photos or results of earlier runs, and linked folders,
        which are not entered.
    unreadable: folders that could not be listed, with the reason.
    """

    jobs: list[Job]
    ignored: list[Path]
    unreadable: list[str]


@dataclass(frozen=True)
class Options:
    """How every file of a batch is treated.

    video: what is to be said of clips alone; strength, quality and max_pixels are of all files.
    """

    strength: float = 1.0
    compare: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    format: Format | None = None
    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    video: VideoOptions = field(default_factory=VideoOptions)


@dataclass(frozen=True)
class Result:
    """What became of one file; status is "ok", "skipped" or "failed".

    blur, change, verdict: of a photo, how blurred it was judged, how much it changed, and what
    that comes to, see `Judgement`.
    frames: of a clip. flicker: how much still places of a clip change from frame to frame, in 8-bit
    levels, blurred and restored. missing: frames of a clip that could not be decoded, about.
    notes: what of a clip is not as it was, or of an animation was not done.
    """

    input: str
    output: str | None
    status: str
    model: str
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    comparison: str | None = None
    error: str | None = None
    blur: float | None = None
    change: float | None = None
    verdict: Verdict | None = None
    frames: int = 1
    flicker: tuple[float, float] | None = None
    missing: int = 0
    notes: tuple[str, ...] = ()

    @property
    def megapixels(self) -> float:
        return self.frames * self.width * self.height / 1e6


def sharp_name(source: Path, format_name: str | None = None) -> str:
    """The name of the restored copy beside a file: `<stem>_sharp.<ext>`."""
    return f"{stem_of(source)}_sharp{_extension(source, format_name)}"


def _extension(source: Path, format_name: str | None, wanted: Format | None = None) -> str:
    """The source's own extension where it fits what is written, else the written format's."""
    written = wanted or output_format(format_name or format_of(source) or "PNG")
    return source.suffix if format_of(source) == written.name else written.extension


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    return True


def plan_jobs(
    inputs: Sequence[Path],
    output: str | Path | None = None,
    recursive: bool = True,
    wanted: Format | None = None,
) -> Plan:
    """The jobs for files and folders.

    A file goes to `<stem>_sharp.<ext>` beside it or to `output`; a folder to `<folder>_sharp/` or
    `output`, its sub-folders mirrored. Several inputs need a folder as `output`, in which several
    folders keep their names. Raises UsageError.
    """
    if not inputs:
        raise UsageError("name at least one photo or folder")
    for path in inputs:
        if not _exists(path):
            raise UsageError(f"{path}: no such file or folder")
    folders = [path for path in inputs if path.is_dir()]
    names_folder = output is not None and str(output).endswith(os.sep)
    target = None if output is None else Path(output)
    exists = target is not None and _exists(target)
    into_folder = target is not None and (
        len(inputs) > 1 or bool(folders) or (exists and target.is_dir()) or names_folder
    )
    if target is not None and into_folder and exists and not target.is_dir():
        raise UsageError(f"{target}: is a file, but several results need a folder")
    plan = Plan([], [], [])
    targets = {path: _folder_target(path, target, len(folders) > 1) for path in folders}
    results = {*targets.values(), *([target] if target else [])}
    for path in inputs:
        if path in folders:
            _scan(plan, path, targets[path], results, recursive)
        elif target is None:
            plan.jobs.append(Job(path, path.parent, f"{_stem(path)}_sharp"))
        elif into_folder:
            plan.jobs.append(Job(path, target, _stem(path)))
        else:
            _check_file_target(path, target, wanted)
            plan.jobs.append(Job(path, target.parent, _stem(target), target.suffix))
    # A file that is named twice, or by its folder too, is restored once.
    unique = {
        (os.path.abspath(job.source), os.path.abspath(job.folder), job.stem): job
        for job in plan.jobs
    }
    return dataclasses.replace(plan, jobs=list(unique.values()))


def _stem(path: Path) -> str:
    return path.stem if is_video(path) else stem_of(path)


def _folder_target(path: Path, output: Path | None, several: bool) -> Path:
    # abspath turns `.` and `..` into names without following links, which name their album.
    absolute = Path(os.path.abspath(path))
    if not absolute.name:
        raise UsageError(f"{path}: name the folder for the results with -o")
    if output is None:
        return absolute.with_name(f"{absolute.name}_sharp")
    return output / absolute.name if several else output


def _check_file_target(source: Path, target: Path, wanted: Format | None) -> None:
    if is_video(source) or is_video(target):
        if is_video(source) and is_video(target):
            return
        raise UsageError(f"{target}: a clip becomes a clip, and a photo a photo")
    promised = format_of(target)
    if is_animation(source) and promised == format_of(source):
        return
    if promised not in FORMATS:
        raise UsageError(
            f"{target}: end it in an extension that can be written (such as .jpg or .png), or in "
            f"{os.sep} to make a folder"
        )
    if wanted is not None and promised != wanted.name:
        raise UsageError(f"{target}: is no {wanted.name} name, as --format asks for")


def _scan(
    plan: Plan, folder: Path, target: Path, results: Collection[Path], recursive: bool
) -> None:
    """Add the files of a folder, but for those in folders of results, which may be inside it."""
    passed_over = {path.resolve() for path in results}

    def refused(error: OSError) -> None:
        plan.unreadable.append(f"{error.filename}: cannot be read ({error.strerror})")

    for place, names, files in os.walk(folder, onerror=refused):
        here = Path(place)
        visible = [name for name in sorted(names) if recursive and not name.startswith(".")]
        ignored = [
            name
            for name in visible
            if (here / name).is_symlink() or _is_folder_of_results(name, visible)
        ]
        plan.ignored.extend(here / name for name in ignored)
        names[:] = [
            name
            for name in visible
            if name not in ignored and (here / name).resolve() not in passed_over
        ]
        stems = {stem_of(Path(file)) for file in files}
        for file in sorted(files):
            path = here / file
            if file.startswith("."):
                continue
            if path.suffix.lower() in PHOTO_EXTENSIONS and not _is_result(path, stems):
                place_in_target = target / path.relative_to(folder).parent
                plan.jobs.append(Job(path, place_in_target, stem_of(path)))
            else:
                plan.ignored.append(path)


def _is_folder_of_results(name: str, names: Collection[str]) -> bool:
    """Whether a folder is what an earlier run left beside another one, to judge by the names."""
    return name.endswith("_sharp") and name.removesuffix("_sharp") in names


def _is_result(path: Path, stems: set[str]) -> bool:
    """Whether a file is what an earlier run left beside a photo, to judge by the names."""
    stem = stem_of(path)
    if (compared := stem.removesuffix("_compare")) != stem:
        stem = stem_of(Path(compared))  # a.png's may carry its whole name, beside a.jpg's
    return stem.endswith("_sharp") and stem.removesuffix("_sharp") in stems


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def share_out(sources: Sequence[Path], runtime: str, threads: int | None) -> tuple[int, int | None]:
    """(files at a time, threads for each) that keep all cores busy with these files.

    ONNX Runtime restores many photos a quarter quicker side by side, with few threads each, than
    one after another with all threads; OpenVINO does not. As many are restored side by side as
    there is room for, and one more is read or written meanwhile.
    """
    count = len(sources)
    many = count >= 2 * cores() and not any(is_video(source) for source in sources)
    if runtime == "onnxruntime" and threads is None and many:
        looked_at = sources[:: math.ceil(count / _LOOKED_AT)]
        typical = statistics.median(math.prod(probe_size(source)) for source in looked_at)
        side_by_side = min(cores(), max(1, int(_MOST_PIXELS / max(typical, 1))))
        return side_by_side + 1, math.ceil(cores() / side_by_side)
    return min(2, max(1, count)), threads


def run_jobs(
    jobs: Iterable[Job],
    deblurrer: Deblurrer,
    options: Options,
    progress: Callable[[Job, float], None] | None = None,
    workers: int = 1,
) -> Generator[Result]:
    """Restore files and yield what became of each, in order.

    workers: files at a time, as far as their pixels do not fill the memory; they share the
    deblurrer. progress: called from their threads. When the iterator is closed, those in work are
    given up.
    """
    batch = _Batch(list(jobs), deblurrer, options)
    pending = iter(batch.jobs)
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                for job in islice(pending, 2 * workers - len(running)):
                    running.append(pool.submit(batch.result_of, job, progress))
                if not running:
                    return
                yield running.popleft().result()
        finally:
            batch.given_up.set()
            for future in running:
                future.cancel()


class _GivenUpError(Exception):
    """Raised between two tiles."""


class _Room:
    """Lets photos in as long as they are few pixels together; a larger one goes in alone."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= _MOST_PIXELS)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


class _Batch:
    """The files of one batch know of each other, so that none takes another's place."""

    def __init__(self, jobs: list[Job], deblurrer: Deblurrer, options: Options) -> None:
        self.jobs = jobs
        self.given_up = threading.Event()
        self._deblurrer = deblurrer
        self._options = options
        self._sources = {os.path.realpath(job.source) for job in jobs}
        self._taken: dict[str, Path] = {}  # results, and what they are of
        self._lock = threading.Lock()
        self._room = _Room()
        self._moving: dict[Path, bool] = {}
        for job in jobs:  # in order, so that it is always the same one that comes too late
            if (output := self._output(job, format_of(job.source))) is not None:
                self._taken.setdefault(os.path.realpath(output), job.source)
                if options.compare and not self._moves(job):
                    self._comparison_path(job, output)

    def result_of(self, job: Job, progress: Callable[[Job, float], None] | None) -> Result:
        """Restore one file; whatever it provokes costs no other."""
        began = time.perf_counter()

        def advance(share: float) -> None:
            if self.given_up.is_set():
                raise _GivenUpError
            if progress is not None:
                progress(job, share)

        try:
            advance(0.0)
            result = self.run(job, advance)
        except _GivenUpError:
            result = self.failed(job, f"{job.source}: given up")
        except (ImageError, ModelError, MemoryError, OSError, ValueError) as error:
            text = str(error) or type(error).__name__
            named = text if str(job.source) in text else f"{job.source}: {text}"
            result = self.failed(job, named)
        except Exception as error:
            result = self.failed(
                job, f"{job.source}: unexpected {type(error).__name__}: {str(error)[:200]}"
            )
        return dataclasses.replace(result, seconds=round(time.perf_counter() - began, 3))

    def failed(self, job: Job, error: str) -> Result:
        return Result(str(job.source), None, "failed", self._deblurrer.card.name, error=error)

    def run(self, job: Job, advance: Callable[[float], None]) -> Result:
        if self._moves(job):
            with self._room.take(_MOST_PIXELS):
                return self._run_moving(job, advance)
        width, height = probe_size(job.source)
        with self._room.take(width * height):
            return self._run_photo(job, advance)

    def _run_photo(self, job: Job, advance: Callable[[float], None]) -> Result:
        options, name = self._options, self._deblurrer.card.name
        photo = None
        format_name = format_of(job.source)
        if format_name is None and job.extension is None:  # only its content tells
            photo = read_photo(job.source, options.max_pixels)
            format_name = photo.format
        output = self._output(job, format_name)
        assert output is not None  # noqa: S101
        kept = self._is_kept(job, output)
        compared = self._comparison_path(job, output) if options.compare else None
        if compared is not None and self._is_kept(job, compared):
            compared = None
        if kept:
            if compared is not None:
                photo = photo or read_photo(job.source, options.max_pixels)
                self._compare_kept(photo, job, output, compared)
            return Result(str(job.source), str(output), "skipped", name, comparison=_text(compared))
        self._require_new(output, compared)
        photo = photo or read_photo(job.source, options.max_pixels)
        require_writable(parse_format(output.suffix), photo.width, photo.height)
        restored = self._deblurrer.restore_photo(photo, options.strength, advance)
        judged = judge(photo.pixels, restored.pixels, options.strength)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_photo(restored, output, options.quality, options.overwrite)
        if compared is not None:
            write_photo(comparison(photo, restored), compared, overwrite=options.overwrite)
        return Result(
            str(job.source),
            str(output),
            "ok",
            name,
            photo.width,
            photo.height,
            comparison=_text(compared),
            blur=judged.blur,
            change=judged.change,
            verdict=judged.verdict,
        )

    def _compare_kept(self, photo: Photo, job: Job, output: Path, compared: Path) -> None:
        """Of an earlier run's result, which was not to be compared, or whose run was killed."""
        restored = read_photo(output, self._options.max_pixels)
        if restored.pixels.shape[:2] != photo.pixels.shape[:2]:
            raise ImageError(
                f"{output}: has another size than {job.source}; use --overwrite to replace"
            )
        write_photo(comparison(photo, restored), compared)

    def _run_moving(self, job: Job, advance: Callable[[float], None]) -> Result:
        output = self._output(job, None)
        assert output is not None  # noqa: S101
        if self._is_kept(job, output):
            return Result(str(job.source), str(output), "skipped", self._deblurrer.card.name)
        self._require_new(output)
        restore = self._restore_clip if is_video(job.source) else self._restore_animation
        return restore(job, output, advance)

    def _restore_clip(self, job: Job, output: Path, advance: Callable[[float], None]) -> Result:
        options, name = self._options, self._deblurrer.card.name
        output.parent.mkdir(parents=True, exist_ok=True)
        video = dataclasses.replace(
            options.video,
            strength=options.strength,
            quality=options.quality,
            max_pixels=options.max_pixels,
        )
        made = restore_video(job.source, output, self._deblurrer, video, advance)
        return Result(
            str(job.source),
            str(output),
            "ok",
            name,
            made.width,
            made.height,
            frames=made.frames,
            flicker=made.flicker,
            missing=made.missing,
            notes=made.notes,
        )

    def _restore_animation(
        self, job: Job, output: Path, advance: Callable[[float], None]
    ) -> Result:
        options, name = self._options, self._deblurrer.card.name
        animation = read_animation(job.source, options.max_pixels)
        if format_of(output) != animation.format:
            raise ImageError(f"{job.source}: is animated, and stays a {animation.format}")
        count = len(animation.frames)

        def restored() -> Iterator[NDArray[np.uint8]]:
            for number, frame in enumerate(animation.frames):
                colours = self._deblurrer.restore_pixels(frame[:, :, :3], options.strength)
                yield np.dstack([colours, frame[:, :, 3]])
                advance((number + 1) / count)

        content = encode_animation(animation, restored(), options.quality)
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(output) as temporary:
            temporary.write_bytes(content)
        height, width = animation.frames[0].shape[:2]
        notes = ("is animated: no before/after picture was made",) if options.compare else ()
        return Result(
            str(job.source), str(output), "ok", name, width, height, frames=count, notes=notes
        )

    def _moves(self, job: Job) -> bool:
        """Whether a file is a clip or an animation, which has to be opened to tell."""
        if job.source not in self._moving:
            self._moving[job.source] = is_video(job.source) or is_animation(job.source)
        return self._moving[job.source]

    def _output(self, job: Job, format_name: str | None) -> Path | None:
        """Where a result goes; None when only the photo's content tells its format."""
        if self._moves(job):
            extension = job.extension or job.source.suffix
        elif job.extension is not None or format_name is not None:
            wanted = self._options.format
            extension = job.extension or _extension(job.source, format_name, wanted)
        else:
            return None
        return job.folder / f"{job.stem}{extension}"

    def _is_kept(self, job: Job, output: Path) -> bool:
        """Whether a result is there already and shall stay; none may take another's place."""
        self._take(job, output)
        return self._options.skip_existing and output.exists()

    def _require_new(self, *paths: Path | None) -> None:
        for path in paths:
            if path is not None and path.exists() and not self._options.overwrite:
                raise ImageError(
                    f"{path}: exists already; use --overwrite to replace or --skip-existing to "
                    "keep what is there"
                )

    def _take(self, job: Job, path: Path) -> None:
        """Refuse a result that is an input of this batch or another file's result."""
        real = os.path.realpath(path)
        if real in self._sources:
            raise ImageError(
                f"{job.source}: the result would replace the input {path}; choose another -o"
            )
        with self._lock:
            if (other := self._taken.setdefault(real, job.source)) != job.source:
                raise ImageError(f"{job.source}: its result {path} is already that of {other}")

    def _comparison_path(self, job: Job, output: Path) -> Path:
        """Where the comparison goes: beside a.jpg and a.png, by the name of one or of the other."""
        path = output.with_name(f"{stem_of(output)}_compare.jpg")
        with self._lock:
            real = os.path.realpath(path)
            if real in self._sources or self._taken.get(real, job.source) != job.source:
                path = output.with_name(f"{output.name}_compare.jpg")
            self._taken.setdefault(os.path.realpath(path), job.source)
        return path
