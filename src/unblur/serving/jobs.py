"""Jobs: tasks that are asked for later, for a limited time."""

from __future__ import annotations

import secrets
import threading
import time

from unblur.serving.engine import Task
from unblur.serving.errors import RefusedError
from unblur.serving.limits import Limits


class Jobs:
    """Tasks by unguessable names; finished ones are forgotten when time or room runs out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._tasks: dict[str, Task] = {}
        self._finished: dict[str, float] = {}  # when, in the order in which they finished
        self._lock = threading.Lock()

    def add(self, task: Task) -> str:
        """Keep a task; returns its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._tasks[name] = task
        self.forget_old()
        return name

    def find(self, name: str) -> Task:
        """A task by name. Raises RefusedError (404)."""
        self.forget_old()
        task = self._tasks.get(name)
        if task is None:
            kept = f"{self.limits.kept_seconds / 60:g} minutes"
            raise RefusedError(404, f"no such job; results are kept for {kept}")
        return task

    def remove(self, name: str) -> None:
        """Give a task up and forget it. Raises RefusedError (404)."""
        self.find(name)
        self._forget(name)

    def forget_old(self) -> None:
        """Forget what nobody fetched in time, and the oldest when it is too much."""
        now = time.monotonic()
        with self._lock:
            for name, task in self._tasks.items():
                if task.future.done() and name not in self._finished:
                    self._finished[name] = now
            finished = dict(self._finished)
        size = sum(task.kept_bytes for task in list(self._tasks.values()))
        count = len(finished)
        for name, when in finished.items():
            crowded = count > self.limits.kept_jobs or size > self.limits.kept_bytes
            if not crowded and now - when <= self.limits.kept_seconds:
                continue
            size -= self._tasks[name].kept_bytes if name in self._tasks else 0
            count -= 1
            self._forget(name)

    def close(self) -> None:
        """Forget everything."""
        for name in list(self._tasks):
            self._forget(name)

    def _forget(self, name: str) -> None:
        with self._lock:
            task = self._tasks.pop(name, None)
            self._finished.pop(name, None)
        if task is not None:
            task.close()
