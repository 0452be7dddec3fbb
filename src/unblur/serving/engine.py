"""Photos that wait for their turn, the threads that restore them, and their results."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from unblur.imaging import FORMATS, Format, ImageError, encode_photo, output_format, read_photo
from unblur.inference import ModelError
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.judgement import Judgement, judge
from unblur.serving.errors import RefusedError
from unblur.serving.limits import Limits

_PIECE = 256 * 1024
State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Wish:
    """What a request asks for.

    format: None for the photo's own. pictures: also make JPEGs of before and after, for photos
    that browsers do not show.
    """

    model: str
    strength: float = 1.0
    format: Format | None = None
    quality: int | None = None
    pictures: bool = False


@dataclass
class Task:
    """One photo on its way: what came, what is wished, and what became of it.

    upload, files: unnamed temporary files, which vanish with the process, however it ends; files
    has "result", and perhaps "before" and "after". seconds: of work, without waiting.
    """

    upload: BinaryIO
    wish: Wish
    megapixels: float
    future: Future[None] = field(default_factory=Future)
    state: State = "waiting"
    progress: float = 0.0
    seconds: float = 0.0
    files: dict[str, BinaryIO] = field(default_factory=dict)
    kept_bytes: int = 0
    format: Format | None = None
    judged: Judgement | None = None
    error: RefusedError | None = None
    cancelled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Give up: stop the work and drop the files."""
        self.cancelled = True
        self.future.cancel()
        if self.state != "running":  # else its thread does it
            self._drop()

    def _drop(self) -> None:
        with self._lock:
            self.upload.close()
            for file in self.files.values():
                file.close()

    def keep(self, name: str, content: bytes) -> None:
        """Store what was made in a temporary file."""
        self.files[name] = file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _drop)
        file.write(content)
        self.kept_bytes += len(content)

    def length(self, name: str) -> int:
        """Bytes of what was stored. Raises RefusedError (404) when it is gone."""
        with self._open(name) as file:
            return file.seek(0, os.SEEK_END)

    def pieces(self, name: str) -> Iterator[bytes]:
        """What was stored, piece by piece: however many read it, none holds all of it in memory.

        Raises RefusedError (404) when it is gone.
        """
        place = 0
        while True:
            with self._open(name) as file:
                file.seek(place)
                piece = file.read(_PIECE)
            if not piece:
                return
            place += len(piece)
            yield piece

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        with self._lock:
            if self.files[name].closed:
                raise RefusedError(404, "the result was forgotten meanwhile")
            yield self.files[name]


def refusal_of(error: ImageError) -> RefusedError:
    """An error of reading or writing a photo without the name and the options of a command."""
    text = str(error).removeprefix("image: ").partition("; raise --max-pixels")[0]
    return RefusedError(422, f"the photo {text}" if text.startswith(("is ", "holds ")) else text)


class _StoppedError(Exception):
    """Raised between two tiles."""


class Engine:
    """A bounded queue in front of a few threads; all methods may be called from any thread."""

    def __init__(self, models: Mapping[str, Deblurrer], limits: Limits) -> None:
        self.models, self.limits = dict(models), limits
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="unblur")
        self._lock = threading.Lock()
        self._pending = 0
        self._running = 0
        self._rate = 1.0  # seconds per megapixel, of late
        self._queued_megapixels = 0.0
        self.finished: Callable[[Task], None] = lambda task: None

    @property
    def pending(self) -> int:
        """Photos that are being sent, wait or are in work."""
        return self._pending

    @property
    def running(self) -> int:
        return self._running

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place in the queue, from before the upload on, for one task that is submitted within.

        Raises RefusedError (429) when the queue is full. What is raised within frees the place.
        """
        self._take()
        try:
            yield
        except BaseException:
            with self._lock:
                self._pending -= 1
            raise

    def _take(self) -> None:
        with self._lock:
            if self._pending >= self.limits.waiting + self.limits.workers:
                left = self._rate * self._queued_megapixels / self.limits.workers
                after = str(min(max(1, math.ceil(left / 2)), 600))
                raise RefusedError(
                    429,
                    f"too many photos are waiting; try again in {after} s",
                    {"Retry-After": after},
                )
            self._pending += 1

    def submit(self, task: Task) -> None:
        """Queue a task in a `room`; its future ends when it is done, failed or given up.

        Raises RefusedError.
        """
        try:
            task.future = self._pool.submit(self._work, task)
        except RuntimeError:
            raise RefusedError(503, "the server is shutting down") from None
        with self._lock:
            self._queued_megapixels += task.megapixels
        task.future.add_done_callback(lambda _: self._leave(task))

    def close(self) -> None:
        """Refuse what waits, and wait for what is in work."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _leave(self, task: Task) -> None:
        with self._lock:
            self._pending -= 1
            self._queued_megapixels -= task.megapixels
        if task.future.cancelled() and not task.cancelled:
            task.state, task.error = "failed", RefusedError(503, "the server is shutting down")
        self.finished(task)

    def _work(self, task: Task) -> None:
        began = time.monotonic()
        deadline = began + self.limits.seconds
        task.state = "running"
        with self._lock:
            self._running += 1

        def advance(share: float) -> None:
            task.progress = share
            if task.cancelled:
                raise _StoppedError
            if time.monotonic() > deadline:
                raise RefusedError(
                    503, f"the photo took longer than {self.limits.seconds:g} s; send a smaller one"
                )

        state: State = "failed"
        try:
            self._restore(task, advance)
            state = "done"
        except RefusedError as error:
            task.error = error
        except _StoppedError:
            task.error = RefusedError(410, "given up")
        except ImageError as error:
            task.error = refusal_of(error)
        except MemoryError:
            task.error = RefusedError(
                503, "not enough memory for this photo now; send a smaller one"
            )
        except ModelError as error:
            task.error = RefusedError(500, str(error))
        except Exception as error:  # whatever one photo provokes must not cost the others
            task.error = RefusedError(500, f"unexpected {type(error).__name__} while restoring it")
        finally:
            task.seconds = time.monotonic() - began
            with self._lock:
                self._running -= 1
                if state == "done":
                    per_megapixel = task.seconds / max(task.megapixels, 0.01)
                    self._rate += 0.2 * (per_megapixel - self._rate)
            task.state = state
            if task.cancelled:
                task.close()
            else:
                task.upload.close()

    def _restore(self, task: Task, advance: Callable[[float], None]) -> None:
        task.upload.seek(0)
        photo = read_photo(task.upload.read(), self.limits.max_pixels)
        advance(0.0)
        restored = self.models[task.wish.model].restore_photo(photo, task.wish.strength, advance)
        task.judged = judge(photo.pixels, restored.pixels, task.wish.strength)
        task.format = task.wish.format or output_format(photo.format)
        task.keep("result", encode_photo(restored, task.format, task.wish.quality))
        if task.wish.pictures:
            task.keep("before", encode_photo(photo, FORMATS["JPEG"]))
            task.keep("after", encode_photo(restored, FORMATS["JPEG"]))
