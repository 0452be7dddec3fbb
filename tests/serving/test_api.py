"""The HTTP API: every answer belongs to its request, every refusal says why, nothing leaks."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from tests.serving.conftest import Served, Started
from unblur.cli import app as cli
from unblur.imaging import encode_photo, read_photo
from unblur.inference import Deblurrer
from unblur.inference.judgement import judge
from unblur.serving import Limits, impatient


def encoded(pixels: np.ndarray, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.fixture
def photo(scene: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 6
    return encoded(scene[:120, :160], "JPEG", quality=90, exif=exif)


@pytest.fixture
def large(scene: np.ndarray) -> bytes:
    """Some seconds of work."""
    return encoded(np.tile(scene, (4, 4, 1)), "JPEG")


def problem(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert text in content["detail"]
    assert len(content["detail"].splitlines()) == 1


def test_a_body_and_a_form_are_restored_alike(
    serve: Served, photo: bytes, small: Deblurrer
) -> None:
    client = serve()
    expected = encode_photo(small.restore_photo(read_photo(photo)))
    for answer in (
        client.post("/v1/deblur", content=photo),
        client.post("/v1/deblur", files={"file": ("../../etc/passwd", photo, "text/html")}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.content == expected
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-unblur-model"] == "small"
        assert float(answer.headers["x-unblur-seconds"]) > 0
        assert answer.headers["x-unblur-megapixels"] == "0.019"
        assert "passwd" not in answer.headers["content-disposition"]
    restored = Image.open(io.BytesIO(expected))
    assert restored.size == (120, 160)  # upright once
    assert restored.getexif()[0x010F] == "a camera"


def test_options(serve: Served, photo: bytes) -> None:
    client = serve()
    as_png = client.post("/v1/deblur?format=png&strength=0", content=photo)
    assert as_png.headers["content-type"] == "image/png"
    assert np.array_equal(read_photo(as_png.content).pixels, read_photo(photo).pixels)
    poor = client.post("/v1/deblur?quality=10", content=photo)
    assert len(poor.content) < len(client.post("/v1/deblur", content=photo).content) / 2


def bomb() -> bytes:
    """A PNG of a few bytes that promises 2.5 gigapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def animation(scene: np.ndarray) -> bytes:
    frames = [Image.fromarray(scene[i : i + 60, :60]) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def test_what_is_refused(serve: Served, photo: bytes, large: bytes, scene: np.ndarray) -> None:
    client = serve(Limits(max_bytes=2_000_000, max_pixels=8_000_000))

    def post(content: bytes = photo, query: str = "") -> httpx.Response:
        return client.post(f"/v1/deblur{query}", content=content)

    problem(post(b""), 422, "is empty")
    problem(post(b"hello" * 100), 422, "is not a known image")
    problem(post(photo[:1500]), 422, "damaged, incomplete")
    problem(post(bomb()), 422, "MP")
    problem(post(encoded(np.zeros((3000, 3000), np.uint8))), 422, "limit of 8 MP")
    problem(post(animation(scene)), 422, "frames")
    problem(post(b"\0" * 2_000_001), 413, "2 MB")
    problem(post(query="?model=../small"), 404, "there are small")
    problem(post(query="?strength=2"), 422, "strength")
    problem(post(query="?strength=nan"), 422, "strength")
    problem(post(query="?format=exe"), 422, "unknown format")
    problem(post(query="?quality=0"), 422, "quality")
    problem(client.post("/v1/deblur", files={"photo": photo}), 422, "field 'file'")
    address = {"file": (None, "http://localhost/a.png")}
    problem(client.post("/v1/deblur", files=address), 422, "field 'file'")  # type: ignore[arg-type]
    fields = {"files": {"file": photo}, "data": {"model": "small"}}
    problem(client.post("/v1/deblur", **fields), 422, "unknown form field model")  # type: ignore[arg-type]
    odd = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post("/v1/deblur", content=b"--y\r\n", headers=odd), 400, "multipart")
    problem(client.get("/v1/deblur"), 405, "Not Allowed")
    problem(client.get("/nowhere/../../etc/passwd"), 404, "Not Found")
    problem(client.get("/%2e%2e/app.py"), 404, "Not Found")
    assert client.get("/healthz").json()["pending"] == 0
    assert post().status_code == 200  # and all goes on


def test_without_content_length_a_body_is_still_bounded(serve: Served) -> None:
    def endless() -> object:
        for _ in range(1000):
            yield b"x" * 10_000

    client = serve(Limits(max_bytes=100_000))
    problem(client.post("/v1/deblur", content=endless()), 413, "0.1 MB")  # type: ignore[arg-type]
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post("/v1/deblur", content=endless(), headers=boundary), 413, "0.1 MB")  # type: ignore[arg-type]


def test_each_answer_belongs_to_its_request(
    serve: Served, scene: np.ndarray, small: Deblurrer
) -> None:
    client = serve(Limits(workers=3, waiting=50))
    parts = [scene[20 * i : 20 * i + 90, 30 * i : 30 * i + 100 + i] for i in range(12)]
    expected = [small.restore_pixels(part) for part in parts]

    def ask(index: int) -> np.ndarray:
        answer = client.post("/v1/deblur", content=encoded(parts[index % 12]))
        return read_photo(answer.content).pixels

    with ThreadPoolExecutor(8) as pool:
        for index, pixels in enumerate(pool.map(ask, range(36))):
            assert np.array_equal(pixels, expected[index % 12])


def wait(client: TestClient, name: str) -> dict[str, object]:
    seen = 0.0
    while True:
        state = client.get(f"/v1/jobs/{name}").json()
        assert state["progress"] >= seen
        seen = state["progress"]
        if state["state"] in ("done", "failed"):
            return state
        time.sleep(0.02)


def test_jobs(serve: Served, photo: bytes, small: Deblurrer) -> None:
    client = serve()
    begun = client.post("/v1/jobs?pictures=true&format=tif", content=photo)
    assert begun.status_code == 202
    name = begun.json()["id"]
    assert begun.headers["location"] == f"/v1/jobs/{name}"
    state = wait(client, name)
    assert (state["state"], state["format"], state["progress"]) == ("done", "tif", 1)
    result = client.get(f"/v1/jobs/{name}/result")
    assert result.headers["content-type"] == "image/tiff"
    expected = small.restore_pixels(read_photo(photo).pixels)
    assert np.array_equal(read_photo(result.content).pixels, expected)
    judged = judge(read_photo(photo).pixels, expected)
    assert (state["blur"], state["change"], state["verdict"]) == astuple(judged)
    for part in ("before", "after"):
        picture = client.get(f"/v1/jobs/{name}/{part}")
        assert picture.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(picture.content)).size == (120, 160)
    problem(client.get(f"/v1/jobs/{name}/else"), 422, "part")
    assert client.delete(f"/v1/jobs/{name}").status_code == 204
    problem(client.get(f"/v1/jobs/{name}"), 404, "no such job")
    plain = client.post("/v1/jobs", content=photo).json()["id"]
    wait(client, plain)
    problem(client.get(f"/v1/jobs/{plain}/before"), 404, "has result")
    damaged = client.post("/v1/jobs", content=photo[:1500]).json()["id"]
    assert "damaged" in str(wait(client, damaged)["error"])
    problem(client.get(f"/v1/jobs/{damaged}/result"), 422, "damaged")


def test_jobs_are_forgotten(serve: Served, photo: bytes) -> None:
    client = serve(Limits(kept_jobs=2))
    names = []
    for _ in range(4):
        names.append(client.post("/v1/jobs", content=photo).json()["id"])
        wait(client, names[-1])
    found = [client.get(f"/v1/jobs/{name}").status_code for name in names]
    assert found == [404, 404, 200, 200]
    brief = serve(Limits(kept_seconds=0.2))
    name = brief.post("/v1/jobs", content=photo).json()["id"]
    wait(brief, name)
    time.sleep(0.3)
    problem(brief.get(f"/v1/jobs/{name}/result"), 404, "no such job")


def test_a_full_queue(serve: Served, photo: bytes, large: bytes) -> None:
    client = serve(Limits(workers=1, waiting=1))
    names = [client.post("/v1/jobs", content=large).json()["id"] for _ in range(2)]
    began = time.monotonic()
    refused = client.post("/v1/deblur", content=photo)
    assert time.monotonic() - began < 1
    problem(refused, 429, "try again")
    assert int(refused.headers["retry-after"]) >= 1
    problem(client.get(f"/v1/jobs/{names[1]}/result"), 409, "not done")
    # Giving jobs up makes room at once, whether they wait or run.
    for name in reversed(names):
        assert client.delete(f"/v1/jobs/{name}").status_code == 204
    deadline = time.monotonic() + 20
    while client.get("/healthz").json()["pending"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.post("/v1/deblur", content=photo).status_code == 200
    text = client.get("/metrics").text
    assert 'unblur_photos_total{model="small",outcome="done"} 1.0' in text
    assert 'unblur_photos_total{model="small",outcome="given up"} 2.0' in text
    assert 'unblur_requests_total{route="/v1/deblur",status="429"} 1.0' in text


def test_the_time_for_a_photo_is_bounded(serve: Served, large: bytes) -> None:
    client = serve(Limits(seconds=0.2))
    problem(client.post("/v1/deblur", content=large), 503, "longer than 0.2 s")


def test_a_key(serve: Served, photo: bytes) -> None:
    client = serve(api_key="secret")
    for headers in ({}, {"authorization": "Bearer other"}, {"x-api-key": "sécret".encode()}):
        problem(client.post("/v1/deblur", content=photo, headers=headers), 401, "API key")  # type: ignore[arg-type]
        assert client.get("/metrics", headers=headers).status_code == 401  # type: ignore[arg-type]
    for headers in ({"authorization": "Bearer secret"}, {"x-api-key": "secret"}):
        assert client.post("/v1/deblur", content=photo, headers=headers).status_code == 200
    assert client.get("/healthz").status_code == 200
    schema = client.get("/openapi.json").json()
    assert schema["paths"]["/v1/deblur"]["post"]["security"] == [{"key": []}]


def test_a_key_that_is_none() -> None:
    result = CliRunner().invoke(cli, ["serve", "--api-key", " "])
    assert result.exit_code == 2
    assert "--api-key" in result.output


def test_what_a_format_cannot_hold_is_refused_at_once(serve: Served) -> None:
    wide = encoded(np.zeros((1, 16384, 3), np.uint8))
    answer = serve().post("/v1/jobs?format=webp", content=wide)
    problem(answer, 422, "WEBP holds at most 16383 pixels a side")


def test_an_upload_that_breaks_off(live: Callable[..., int]) -> None:
    port = live()
    form = "multipart/form-data; boundary=x"
    for type_, begins in (("image/png", b"abc"), (form, b"--x\r\nContent-Disp")):
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            head = f"POST /v1/deblur HTTP/1.1\r\nHost: localhost\r\nContent-Type: {type_}\r\n"
            client.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + begins)
            time.sleep(0.2)
    counted = 'unblur_requests_total{route="/v1/deblur",status="400"} 2.0'
    deadline = time.monotonic() + 10
    text = ""
    while counted not in text and time.monotonic() < deadline:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert counted in text
    assert 'status="500"' not in text


def test_other_sites_cannot_reach_a_local_server(serve: Served, photo: bytes) -> None:
    client = serve(hosts=["localhost", "::1"])
    problem(client.get("/healthz", headers={"host": "evil.example"}), 421, "evil.example")
    for host in ("localhost:8000", "LOCALHOST", "[::1]:8000"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    elsewhere = {"sec-fetch-site": "cross-site"}
    problem(client.post("/v1/deblur", content=photo, headers=elsewhere), 403, "other sites")


def test_the_description_is_true(serve: Served, photo: bytes) -> None:
    client = serve()
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/deblur", "/v1/jobs", "/v1/jobs/{name}", "/v1/jobs/{name}/{part}", "/v1/models",
        "/healthz", "/metrics",
    }  # fmt: skip
    deblur = schema["paths"]["/v1/deblur"]["post"]
    assert set(deblur["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    names = {parameter["name"] for parameter in deblur["parameters"]}
    assert names == {"model", "strength", "format", "quality", "pictures"}
    answers = set(deblur["responses"])
    assert {"200", "413", "422", "429", "503"} <= answers
    assert str(client.post("/v1/deblur", content=b"").status_code) in answers
    for path in ("/v1/models", "/healthz"):
        assert client.get(path).status_code == 200
    (card,) = client.get("/v1/models").json()["models"]
    assert card["name"] == "small"
    assert card["parameters"] > 0


def test_the_page_asks_nobody_else(serve: Served) -> None:
    client = serve()
    for name in ("", "app.js", "viewer.js", "style.css", "icon.svg"):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text


def connect(port: int, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    lines = ["POST /v1/deblur HTTP/1.1", "Host: localhost", *head.split("\n")]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def pending(port: int) -> int:
    return int(httpx.get(f"http://127.0.0.1:{port}/healthz").json()["pending"])


def test_slow_and_leaving_clients(live: Callable[..., int], large: bytes, photo: bytes) -> None:
    port = live(Limits(idle_seconds=0.3, body_seconds=1.0, workers=1))
    with connect(port, "Content-Length: 1000", b"abc") as slow:
        assert b"408" in slow.recv(1000).splitlines()[0]
    with connect(port, "Content-Length: 100000") as dripping:
        began = time.monotonic()
        while time.monotonic() - began < 5:
            try:
                dripping.sendall(b"x")
            except OSError:
                break
            time.sleep(0.1)
        assert time.monotonic() - began < 4
    with connect(port, f"Content-Length: {len(large)}", large[: len(large) // 2]):
        pass  # gone in the middle of the upload
    while pending(port):
        time.sleep(0.01)
    leaving = connect(port, f"Content-Length: {len(large)}", large)
    deadline = time.monotonic() + 10
    while not pending(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pending(port) == 1
    leaving.close()  # while the photo is in work
    while pending(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pending(port) == 0
    assert httpx.post(f"http://127.0.0.1:{port}/v1/deblur", content=photo).status_code == 200


def test_uploads_take_places_of_the_queue(live: Callable[..., int], photo: bytes) -> None:
    port = live(Limits(idle_seconds=1.0, workers=1, waiting=1))
    with connect(port, "Content-Length: 1000", b"a"), connect(port, "Content-Length: 1000", b"a"):
        while pending(port) < 2:
            time.sleep(0.01)
        refused = httpx.post(f"http://127.0.0.1:{port}/v1/deblur", content=photo)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
    while pending(port):  # what was not sent is not waited for
        time.sleep(0.01)
    assert httpx.post(f"http://127.0.0.1:{port}/v1/deblur", content=photo).status_code == 200


def test_results_are_whole_however_many_fetch_them(live: Callable[..., int], photo: bytes) -> None:
    port = live()
    home = f"http://127.0.0.1:{port}/v1/jobs"
    name = httpx.post(home, content=photo).json()["id"]
    while httpx.get(f"{home}/{name}").json()["state"] != "done":
        time.sleep(0.02)

    def fetch(_: int) -> int:
        return len(httpx.get(f"{home}/{name}/result").content)

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(fetch, range(90)))) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells of memory otherwise")
def test_readers_of_results_hold_no_copies(process: Started, large: bytes) -> None:
    """However large a result is, and however many there are who do not take it."""
    server, address = process()
    home = f"{address}/v1/jobs"
    name = httpx.post(f"{home}?strength=0&format=bmp", content=large).json()["id"]
    while httpx.get(f"{home}/{name}").json()["state"] != "done":
        time.sleep(0.02)

    def resident() -> int:
        text = Path(f"/proc/{server.pid}/status").read_text()
        return 1024 * int(next(x for x in text.splitlines() if x.startswith("VmRSS:")).split()[1])

    size, before = len(httpx.get(f"{home}/{name}/result").content), resident()
    ask = f"GET /v1/jobs/{name}/result HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            port = int(address.rpartition(":")[2])
            deaf = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            deaf.sendall(ask)
        time.sleep(1)
        assert resident() - before < 4 * size


@pytest.mark.slow
def test_silent_connections_are_ended(app: Callable[..., FastAPI]) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app(), http=impatient(0.3), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        address = listening.getsockname()
        with socket.create_connection(address, 5) as silent:
            assert silent.recv(1) == b""  # closed by the server
        with socket.create_connection(address, 5) as half:
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
            assert half.recv(1) == b""
        with socket.create_connection(address, 5) as deaf:
            deaf.sendall(1000 * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(1.5)  # without reading
            taken = 0
            with contextlib.suppress(OSError):
                while data := deaf.recv(65_536):
                    taken += len(data)
            assert taken < 1000 * len(httpx.get(f"http://127.0.0.1:{address[1]}/openapi.json").text)
        with socket.create_connection(address, 5) as two:
            for _ in range(2):
                two.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.2)
                assert b"200 OK" in two.recv(1000)
    finally:
        server.should_exit = True
        thread.join()


def test_ending_a_server_ends_its_work_first(process: Started, large: bytes) -> None:
    server, address = process()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{address}/v1/deblur", content=large, timeout=120)
        while not httpx.get(f"{address}/healthz").json()["pending"]:
            time.sleep(0.02)
        server.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert server.wait(30) in (0, 143, -signal.SIGTERM)


def test_a_killed_server_leaves_no_files(process: Started, large: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    server, address = process(env={**os.environ, "TMPDIR": str(folder)})
    for _ in range(2):
        assert httpx.post(f"{address}/v1/jobs", content=large).status_code == 202
    server.kill()
    server.wait()
    assert not list(folder.iterdir())


def test_the_command_says_what_is_wrong(process: Started) -> None:
    from typer.testing import CliRunner

    from unblur.cli import app

    for options, text in (
        (["--model", "nothing"], "nothing"),
        (["--model", "small", "--model", "small"], "two models are named small"),
        (["--port", "99999"], "--port"),
    ):
        result = CliRunner().invoke(app, ["serve", *options])
        assert result.exit_code != 0
        assert text in result.output
    _, address = process()
    port = address.rpartition(":")[2]
    again = CliRunner().invoke(app, ["serve", "--model", "small", "--port", port])
    assert again.exit_code == 1
    assert f"port {port}" in again.output
