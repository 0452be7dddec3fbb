"""A whole run: what is left to do, workers that do it, and a manifest of what became of it."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from multiprocessing import get_context
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unblur.bulk.errors import BulkError
from unblur.bulk.places import OWN_FOLDER, Place
from unblur.bulk.work import PARTS, SCHEMA, Settings, Worker, output_name
from unblur.files import printable, sha256_of
from unblur.hardware import cores
from unblur.inference.deblurrer import Deblurrer
from unblur.inference.models import find_model
from unblur.inference.runtimes.choice import is_checkpoint
from unblur.inference.runtimes.onnx import read_card

ENGINES = ("local", "ray")
MANIFEST = f"{OWN_FOLDER}/manifest.parquet"
_SETTINGS = f"{OWN_FOLDER}/settings.json"
_BATCH = 16  # photos that are lost at most, and done again, when a worker dies
_RETRIES = 3
_LARGEST_PART = 1_000_000_000
_NEVER = datetime.fromtimestamp(0, UTC)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    done: photos of earlier runs that need not be done again. every: photos that the source has.
    failed: when those that failed in earlier runs did. unreadable: of names that are no text.
    """

    source: str
    destination: str
    settings: Settings
    names: list[str]
    done: int
    every: list[str]
    failed: dict[str, datetime]
    unreadable: list[str]


@dataclass(frozen=True)
class Totals:
    """What became of all photos of a source, earlier runs' included."""

    ok: int
    failed: int
    megapixels: float
    manifest: str
    errors: list[str]


def plan_bulk(source: str, destination: str, settings: Settings) -> Plan:
    """List the photos of a source that are not in the destination's manifest yet.

    Raises BulkError for places that cannot be used, a source without photos, and a destination
    that holds the results of other settings, or files of other origin where results belong;
    ModelError.
    """
    target = Place(destination)
    if Place(source).contains(target):
        raise BulkError(f"{destination}: lies in the source; name another place for the results")
    if target.contains(Place(source)):
        raise BulkError(f"{destination}: the source lies in it; name another place for the results")
    about = settings.about(_weights(settings.model)) | {"source": Place(source).identity}
    found = list(Place(source).photos())
    names = [name for name in found if _is_text(name)]
    if not found:
        raise BulkError(f"{source}: no photos found")
    try:
        rows = read_rows(target)
        done = {row["input"] for row in rows if row["status"] == "ok"}
        before = {}
        if target.exists(_SETTINGS):
            # Older destinations do not say that they are in float32, nor what they were made of.
            known = {"precision": "float32", "source": about["source"]}
            before = known | json.loads(target.read(_SETTINGS, 100_000))
        if before != about:
            taken = _taken(target, names, settings)
            if before and (done or taken):
                changed = ", ".join(key for key in about if about[key] != before.get(key))
                if changed == "source":  # photos of one name there and here are not the same
                    raise BulkError(
                        f"{destination}: holds the results of {before['source']}; name another "
                        f"place, or, if that has moved, write {about['source']} into "
                        f"{destination}/{_SETTINGS}"
                    )
                raise BulkError(
                    f"{destination}: holds results of other settings ({changed}); name another "
                    "place, or the same settings"
                )
            if taken:
                raise BulkError(
                    f"{destination}: holds other photos where results belong, such as "
                    f"{min(taken)}; name another place for the results"
                )
            target.write(_SETTINGS, json.dumps(about).encode())
    except (OSError, ValueError) as error:
        raise BulkError(f"{destination}: cannot be used ({error})") from error
    left = [name for name in names if name not in done]
    failed = {row["input"]: _finished(row) for row in rows if row["status"] != "ok"}
    unreadable = [printable(name) for name in found if not _is_text(name)]
    return Plan(
        source, destination, settings, left, len(names) - len(left), names, failed, unreadable
    )


def _weights(model: str) -> str:
    """The hash of a model's weights, by which they are told from others."""
    path = find_model(model)
    if is_checkpoint(path):
        return sha256_of(path)
    return read_card(path).weights_sha256


def _is_text(name: str) -> bool:
    """Whether a manifest can hold a name; file systems hold any bytes."""
    return printable(name) == name


def _taken(target: Place, names: list[str], settings: Settings) -> set[str]:
    """Photos in a destination that results would replace."""
    return set(target.photos(missing_ok=True)).intersection(
        output_name(name, settings.format) for name in names
    )


def run_bulk(
    plan: Plan,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Totals:
    """Restore what a plan says and write the destination's manifest, one row for each input.

    engine: "local", processes of this machine, or "ray", a cluster's at `address` (or one started
    here). workers: how many; one for each core by default. Raises BulkError.
    """
    if engine not in ENGINES:
        raise BulkError(f"unknown engine '{engine}': choose one of {', '.join(ENGINES)}")
    try:
        return _run(plan, engine, workers, address, progress)
    except OSError as error:
        reason = error.strerror or error
        raise BulkError(
            f"{plan.destination}: cannot be written ({reason}); run it again to go on"
        ) from error


def _run(
    plan: Plan, engine: str, workers: int | None, address: str | None, progress: Progress | None
) -> Totals:
    count, done = len(plan.names), 0
    start = _local if engine == "local" else _ray
    # Photos whose batch never came back are tried once more, each alone, so that one that brings
    # down whatever worker takes it costs no other.
    for size in (_BATCH, 1):
        if done >= count:  # the manifest, which may be long, need not be read for that
            break
        told = _told(plan, read_rows(Place(plan.destination))) if size == 1 else set()
        left = [name for name in plan.names if name not in told]
        batches = [left[i : i + size] for i in range(0, len(left), size)]
        if not batches:
            break
        for number in start(plan, batches, workers if size > 1 else 1, address):
            done += number
            if progress is not None:
                progress(done, count)
    return _finish(plan)


def _local(
    plan: Plan, batches: Sequence[list[str]], workers: int | None, _: str | None
) -> Iterator[int]:
    """Processes of this machine; what is in work when one of them dies does not come back."""
    settings = plan.settings
    # Said once what is wrong with them, before any process is started.
    Deblurrer(settings.model, settings.runtime, settings.device, threads=settings.threads)
    size = workers or cores()
    left = iter(batches)
    over = False
    while not over:
        # A process that dies ends the whole pool, so another one is made for the rest.
        pool = ProcessPoolExecutor(
            size,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(plan.source, plan.destination, settings),
        )
        try:
            running: set[Future[int]] = set()
            while True:
                broken = False
                try:
                    for batch in islice(left, size - len(running)):
                        running.add(pool.submit(_work, batch))
                except BrokenExecutor:  # since the last look at what is running
                    left, broken = chain([batch], left), True
                if not running:
                    over = not broken
                    break
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:  # the destination is full, or gone
                    if isinstance(error := future.exception(), OSError):
                        raise error
                yield from (future.result() for future in finished if not future.exception())
                if any(future.exception() for future in finished):
                    # All others of the pool end with it, too, now or never.
                    yield from (f.result() for f in wait(running).done if not f.exception())
                    break
        finally:
            pool.shutdown(cancel_futures=True)


_worker: Worker | None = None  # of a process of the pool


def _begin(source: str, destination: str, settings: Settings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is in work is finished
    global _worker
    _worker = Worker(source, destination, settings)


def _work(names: list[str]) -> int:
    assert _worker is not None  # noqa: S101
    return len(_worker(names))


def _ray(
    plan: Plan, batches: Sequence[list[str]], workers: int | None, address: str | None
) -> Iterator[int]:
    """Actors on a Ray cluster, each with the model; batches of those that die are tried again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError
    except ImportError:
        raise BulkError("--engine ray needs: pip install 'unblur[scale]'") from None
    if not ray.is_initialized():
        own: dict[str, Any] = {} if address else {"num_cpus": cores(), "include_dashboard": False}
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise BulkError(f"{address or 'ray'}: cannot be reached ({error})") from error
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # A batch that kills worker after worker must not end the others.
    context.max_errored_blocks = -1
    # Settings of actors that it has no other place for yet.
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    threads = plan.settings.threads or 1
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    size = min(len(batches), workers or max(1, int(resources.get("CPU", 1)) // threads))
    data = ray.data.from_items(
        [{"names": batch} for batch in batches], override_num_blocks=len(batches)
    ).map_batches(
        _RayWorker,
        fn_constructor_args=(plan.source, plan.destination, plan.settings),
        compute=ActorPoolStrategy(size=size),
        batch_size=1,
        num_cpus=threads,
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )
    try:
        for row in data.iter_rows():
            yield int(row["count"])
    except RayError as error:
        raise BulkError(
            f"ray: {str(error).splitlines()[0][:200]}; run it again to go on"
        ) from error


class _RayWorker:
    def __init__(self, source: str, destination: str, settings: Settings) -> None:
        self._worker = Worker(source, destination, settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (names,) = batch["names"]
        return {"count": [len(self._worker(list(names)))]}


def read_rows(target: Place) -> list[dict[str, Any]]:
    """The rows of all parts of a manifest, the last one of each input."""
    rows: dict[str, dict[str, Any]] = {}
    parts = [name for name in target.names(PARTS) if name.endswith(".parquet")]
    for name in [*parts, *([MANIFEST] if target.exists(MANIFEST) else [])]:
        # Arrow's threads that read Python objects abort the program now and then when it ends
        # (apache/arrow#34314); this way there are none.
        part = pq.ParquetFile(pa.BufferReader(target.read(name, _LARGEST_PART)))
        for row in part.read(use_threads=False).cast(SCHEMA).to_pylist():
            known = rows.get(row["input"])
            if known is None or _rank(row) > _rank(known):
                rows[row["input"]] = row
    return list(rows.values())


def _rank(row: dict[str, Any]) -> tuple[bool, datetime]:
    """Of several rows of one photo the highest counts."""
    return row["status"] == "ok", _finished(row)


def _finished(row: dict[str, Any]) -> datetime:
    return row["finished"] or _NEVER  # rows of crashes had no time once


def _told(plan: Plan, rows: list[dict[str, Any]]) -> set[str]:
    """The photos that a worker of this run has told of, as restored or as failed."""
    return {row["input"] for row in rows if plan.failed.get(row["input"]) != _finished(row)}


def _finish(plan: Plan) -> Totals:
    """Put the parts together; what no worker lived to tell of has failed."""
    target = Place(plan.destination)
    rows = read_rows(target)
    lost = set(plan.names) - _told(plan, rows)
    # A failed photo that is no longer there is nobody's concern any more.
    there = set(plan.every) - lost
    rows = [row for row in rows if row["status"] == "ok" or row["input"] in there]
    failed = dict.fromkeys(SCHEMA.names) | {
        "status": "failed",
        "model": plan.settings.model,
        "finished": datetime.now(UTC),
    }
    crash = "the program crashed on it, or ran out of memory"
    rows += [failed | {"input": name, "error": crash} for name in lost]
    no_text = "its name is not UTF-8; rename it"
    rows += [failed | {"input": name, "error": no_text} for name in plan.unreadable]
    rows.sort(key=lambda row: row["input"])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer)
    target.write(MANIFEST, buffer.getvalue())
    status = Counter(row["status"] for row in rows)
    pixels = sum(row["width"] * row["height"] for row in rows if row["status"] == "ok")
    return Totals(
        ok=status["ok"],
        failed=status["failed"],
        megapixels=pixels / 1e6,
        manifest=f"{plan.destination.rstrip('/')}/{MANIFEST}",
        errors=[
            f"{row['input']}: {str(row['error']).removeprefix(row['input'] + ': ')}"
            for row in rows
            if row["status"] == "failed"
        ],
    )
