"""What the server counts, for Prometheus."""

from __future__ import annotations

from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from unblur.serving.engine import Engine, Task


class Measures:
    """Counters of one server, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "unblur_requests", "Requests by route and status.", ["route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._photos = Counter(
            "unblur_photos", "Photos by model and outcome.", ["model", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._megapixels = Counter(
            "unblur_megapixels", "Megapixels restored.", ["model"], registry=self.registry
        )
        self._seconds = Histogram(
            "unblur_photo_seconds", "Work on a photo, without waiting.", ["model"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250), registry=self.registry,
        )  # fmt: skip
        pending = Gauge(
            "unblur_photos_pending", "Photos waiting or in work.", registry=self.registry
        )
        pending.set_function(lambda: engine.pending)
        running = Gauge("unblur_photos_running", "Photos in work.", registry=self.registry)
        running.set_function(lambda: engine.running)
        engine.finished = self._count

    def _count(self, task: Task) -> None:
        given_up = task.error is not None and task.error.status == HTTPStatus.GONE
        finished = task.state in ("done", "failed") and not given_up
        outcome = task.state if finished else "given up"
        self._photos.labels(task.wish.model, outcome).inc()
        if task.state == "done":
            self._megapixels.labels(task.wish.model).inc(task.megapixels)
            self._seconds.labels(task.wish.model).observe(task.seconds)
