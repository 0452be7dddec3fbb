"""The tests. Run in several processes (`pytest -n auto`), each keeps to its own cores."""

import os


def _keep_to_own_cores() -> None:
    """So that the threads of one process do not wait for those of another."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = cores[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
        os.sched_setaffinity(0, own or cores)


_keep_to_own_cores()  # before any library counts the cores
