"""Clips: frames decoded, restored and encoded at once, segment by segment, so that a killed run
can go on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from unblur.files import atomic_path, sha256_of, write_json
from unblur.imaging import DEFAULT_MAX_PIXELS, ImageError
from unblur.imaging.video import (
    Frame,
    SegmentWriter,
    VideoReader,
    choose_encoder,
    join_segments,
    require_text,
)
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.runtimes.choice import precision
from unblur.inference.temporal import Flicker, Steadier

_SEGMENT_FRAMES = 48
_AHEAD = 3  # frames that are decoded, or wait to be encoded, while another is restored
_HEADERS_ERR = 0.02  # share of frames by which a header may be wrong
_PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class VideoOptions:
    """How a clip is treated.

    codec: one of `imaging.video.CODECS`; the source's own by default. quality: 1…100.
    start, duration: in seconds, for a part of the clip. temporal: make it steadier.
    """

    strength: float = 1.0
    codec: str | None = None
    quality: int | None = None
    start: float | None = None
    duration: float | None = None
    temporal: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class VideoResult:
    """What was made. flicker: (blurred, restored), see `Flicker`; of what this run saw.

    missing: frames that the clip's header promises and that could not be decoded, about.
    notes: what of the clip is not as it was, one line each.
    """

    width: int
    height: int
    frames: int
    flicker: tuple[float, float] | None
    missing: int
    notes: tuple[str, ...] = ()


def restore_video(
    source: Path,
    output: Path,
    deblurrer: Deblurrer,
    options: VideoOptions | None = None,
    progress: Callable[[float], None] | None = None,
) -> VideoResult:
    """Restore a clip into another; what is there of an interrupted run with the same options is
    kept and gone on from.

    Rate, times, rotation, colours, sound, subtitles and chapters are kept. Memory does not depend
    on the clip's length. The segments lie in a hidden folder beside the output until it is done.
    progress: called with the finished share, 0…1. Raises ImageError.
    """
    options = options or VideoOptions()
    require_text(output)
    with VideoReader(source, options.max_pixels) as reader:
        encoder = choose_encoder(reader, output, options.codec)
        first, last = _range(reader, options)
        work = _work_folder(output)
        plan = {
            "source": [source.name, source.stat().st_size, source.stat().st_mtime_ns],
            "model": deblurrer.card.name,
            "weights": deblurrer.card.weights_sha256,
            "precision": precision(deblurrer.runtime),
            "best": deblurrer.best,
            "encoder": encoder,
            # Earlier versions took those of two fields, and forgot how long the last one is shown.
            "frames": "whole, shown for as long",
            "options": [options.strength, options.quality, first, str(last), options.temporal],
        }
        segments = None
        try:
            segments = _Segments(work, plan)
            flicker = _restore(
                reader, segments, deblurrer, options, (first, last), encoder, progress
            )
            if not segments.done:
                shutil.rmtree(work, ignore_errors=True)
                raise ImageError(f"{source}: there are no frames between --start and its end")
            begin = None if options.start is None else segments.done[0]["first"]
            end = segments.done[-1]
            shown = int(min(end["shown"], last - end["last"]))
            with atomic_path(output) as temporary:
                join_segments(segments.files, reader, temporary, output.suffix, begin, last, shown)
        except OSError as error:
            reason = error.strerror or error
            raise ImageError(
                f"{output}: cannot be written ({reason}); what is done of it is kept"
            ) from error
        finally:
            if segments is not None:
                segments.release()
        shutil.rmtree(work, ignore_errors=True)
        info = reader.info
        frames = sum(segment["frames"] for segment in segments.done)
        whole = options.start is None and options.duration is None
        missing = reader.missing(frames) if whole else reader.damaged
        if missing <= _HEADERS_ERR * frames:
            missing = 0
        interlaced = any(segment["interlaced"] for segment in segments.done)
        notes = {
            "was interlaced: the result has whole frames, as many as before": interlaced,
            "its transparency is not kept": reader.transparent,
        }
        told = tuple(note for note, holds in notes.items() if holds)
        return VideoResult(info.width, info.height, frames, flicker.levels, missing, told)


def _work_folder(output: Path) -> Path:
    """A hidden folder beside a result; the longest legal names still have room."""
    name = output.name
    if len(name.encode()) > 200:
        name = f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return output.with_name(f".{name}.unblur")


def _range(reader: VideoReader, options: VideoOptions) -> tuple[int, float]:
    """The first time that is restored, and the first that is not any more."""
    base, first, last = reader.stream.time_base, reader.start, math.inf
    for name, value in (("--start", options.start), ("--duration", options.duration)):
        if value is not None and not 0 <= value < 1e9:
            raise ImageError(f"{name} takes seconds, got {value:g}")
    if options.start is not None:
        first += round(options.start / base)
    if options.duration is not None:
        last = first + round(options.duration / base)
    return first, last


class _Segments:
    """The finished segments of a run, in a folder that says what they are of.

    done: for each, the times of its first and last frame, for how long that is shown, and how many
        it has.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.done: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            same = json.loads((folder / _PLAN_FILE).read_text(encoding="utf-8")) == plan
        except (OSError, ValueError):
            same = False
        if not same:
            for file in folder.iterdir():
                file.unlink()
            write_json(folder / _PLAN_FILE, plan)
            return
        while (about := self._finished(len(self.done))) is not None:
            self.done.append(about)

    @property
    def files(self) -> list[Path]:
        return [self.path(number) for number in range(len(self.done))]

    def release(self) -> None:
        """Let another run have the folder."""
        if self._lock is not None:
            os.close(self._lock)

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06}.nut"

    def _about(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _finished(self, number: int) -> dict[str, Any] | None:
        """What is known of a segment that is there and whole."""
        try:
            about: dict[str, Any] = json.loads(self._about(number).read_text(encoding="utf-8"))
            return about if sha256_of(self.path(number)) == about["sha256"] else None
        except (OSError, ValueError, KeyError):
            return None

    def add(self, made: Path, times: list[int], shown: int, interlaced: bool) -> None:
        """Take over a finished file with frames of these times.

        shown: for how long the last one is. interlaced: whether there were frames of two fields so
        far.
        """
        number = len(self.done)
        made.replace(self.path(number))
        about = {
            "first": times[0],
            "last": times[-1],
            "shown": shown,
            "frames": len(times),
            "interlaced": interlaced,
            "sha256": sha256_of(self.path(number)),
        }
        write_json(self._about(number), about)
        self.done.append(about)


def _locked(folder: Path) -> int | None:
    """An open folder that no other run has. Raises ImageError when one has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise ImageError(f"{folder}: another run is restoring this clip") from None
    return lock


def _restore(
    reader: VideoReader,
    segments: _Segments,
    deblurrer: Deblurrer,
    options: VideoOptions,
    span: tuple[int, float],
    encoder: str,
    progress: Callable[[float], None] | None,
) -> Flicker:
    """Make the segments that are not there yet."""
    first, last = span
    flicker, steadier = Flicker(), Steadier() if options.temporal else None
    seconds = reader.info.seconds - float((first - reader.start) * reader.stream.time_base)
    ticks = min(last - first, max(seconds, 0) / float(reader.stream.time_base)) or 1

    def restored(frame: Frame) -> Frame:
        pixels = deblurrer.restore_pixels(frame.pixels, options.strength)
        if steadier is not None:
            pixels = steadier(frame.pixels, pixels)
        flicker.add(frame.pixels, pixels)
        return Frame(frame.pts, frame.duration, pixels)

    begin = segments.done[-1]["last"] if segments.done else first
    with _Ahead(reader.frames(begin, last)) as ahead:
        frames: Iterator[Frame] = ahead
        if segments.done and (again := next(ahead, None)) is not None:
            # The last frame of the segment before is what the next one is compared with.
            if again.pts == begin:
                restored(again)
            else:
                frames = chain([again], ahead)
        while True:
            chunk = islice(frames, _SEGMENT_FRAMES)
            head = next(chunk, None)
            if head is None:
                return flicker
            made = segments.folder / "unfinished.nut"
            writer = SegmentWriter(made, reader, encoder, options.quality)
            times: list[int] = []
            with _Behind(writer) as encoding:
                for frame in chain([head], chunk):
                    encoding.write(restored(frame))
                    times.append(frame.pts)
                    if progress is not None:
                        progress(min(1.0, (frame.pts - first) / ticks))
            segments.add(made, times, frame.duration, reader.interlaced)


class _Ahead(Iterator[Frame]):
    """Decodes a few frames ahead, in a thread of its own."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for frame in self._frames:
                if not self._put(frame):
                    return
        except BaseException as error:  # raised again where the frames are taken
            end = error
        self._put(end)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._over.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __enter__(self) -> _Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def __next__(self) -> Frame:
        if self._over.is_set():
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, Frame):
            return item
        self._over.set()
        if item is not None:
            raise item
        raise StopIteration


class _Behind:
    """Encodes in a thread of its own, a few frames behind."""

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Behind:
        return self

    def write(self, frame: Frame) -> None:
        self._waiting.append(self._pool.submit(self._writer.write, frame))
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for future in self._waiting:
                    future.result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._writer.close()
