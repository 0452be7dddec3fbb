"""A server in this process, and one as `unblur serve` starts it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from unblur.inference import Deblurrer
from unblur.serving import Engine, Limits, create_app

Served = Callable[..., TestClient]
Started = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def app(small: Deblurrer) -> Callable[..., FastAPI]:
    """Makes an application with limits of one's own."""

    def make(limits: Limits | None = None, **options: object) -> FastAPI:
        engine = Engine({"small": small}, limits or Limits())
        return create_app(engine, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def serve(app: Callable[..., FastAPI]) -> Iterator[Served]:
    """Makes a client of such an application."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            TestClient(app(*args, **options), base_url="http://localhost")
        )


@pytest.fixture
def live(app: Callable[..., FastAPI]) -> Iterator[Callable[..., int]]:
    """Serves such an application over a real socket; returns its port."""
    with contextlib.ExitStack() as stack:

        def start(*args: object, **options: object) -> int:
            config = uvicorn.Config(app(*args, **options), port=0, log_level="error")
            server = uvicorn.Server(config)
            socket = config.bind_socket()
            thread = threading.Thread(target=server.run, args=([socket],))
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join()

            stack.callback(stop)
            while not server.started:
                time.sleep(0.01)
            return int(socket.getsockname()[1])

        yield start


@pytest.fixture
def process() -> Iterator[Started]:
    """Starts `unblur serve` on a free port; returns the process and its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, **more: object) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", "from unblur.cli import main; main()", "serve"]
        command += ["--port", "0", "--model", "small", *options]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload]
        started.append(server)
        for line in server.stderr:
            if found := re.search(r"http://localhost:\d+", line):
                return server, found[0]
        raise AssertionError("the server did not start")

    yield start
    for server in started:
        server.kill()
        server.wait()
