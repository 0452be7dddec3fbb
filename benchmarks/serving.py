"""The server under load: `python benchmarks/serving.py`.

Starts `unblur serve` and prints what it measures: latency of one client beside the command's own
time for the same photo, 4 clients at once (every answer is checked to belong to its request), the
server's memory on the way, and how long refusals take.
"""

from __future__ import annotations

import argparse
import io
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageFilter

from unblur.demo import draw_scene
from unblur.imaging import read_photo
from unblur.inference.deblurrer import Deblurrer

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]


def photos(count: int, megapixels: float) -> list[bytes]:
    """Blurred photos that differ, as JPEG files."""
    scene = Image.fromarray(draw_scene())
    factor = (megapixels * 1e6 / (scene.width * scene.height)) ** 0.5
    size = round(scene.width * factor), round(scene.height * factor)
    large = scene.resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(1.5))
    files = []
    for index in range(count):
        buffer = io.BytesIO()
        pixels = np.roll(np.asarray(large), 97 * index, axis=1)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    return files


def resident(pid: int) -> float:
    """MB of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found
    return int(found[1]) / 1000


def batches() -> None:
    """Whether tiles of several requests in one batch would be quicker than one after another."""
    from unblur.inference.models import find_model
    from unblur.inference.runtimes import installed_runtimes, load_runtime

    tiles = np.random.default_rng(0).random((4, 3, 256, 256), np.float32)
    for name in installed_runtimes():
        if name == "torch":
            continue
        runtime = load_runtime(find_model("small"), name, "auto", None)
        seconds: dict[str, list[float]] = {"batch": [], "single": []}
        for _ in range(9):
            began = time.perf_counter()
            runtime.run(tiles)
            middle = time.perf_counter()
            for tile in tiles:
                runtime.run(tile[None])
            seconds["batch"].append(middle - began)
            seconds["single"].append(time.perf_counter() - middle)
        ratio = statistics.median(seconds["batch"]) / statistics.median(seconds["single"])
        print(f"{name}: a batch of 4 tiles of 256² takes {ratio:.2f} × as long as one by one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--megapixels", type=float, default=2.0)
    args = parser.parse_args()
    batches()
    files = photos(8, args.megapixels)
    small = Deblurrer("small")
    expected, engine = [], []
    for file in files:
        photo = read_photo(file)
        began = time.perf_counter()
        expected.append(small.restore_photo(photo).pixels[::16, ::16].astype(int))
        engine.append(time.perf_counter() - began)
    server = subprocess.Popen(
        [*UNBLUR, "serve", "--port", "0", "--model", "small"], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    found = re.search(r"http://\S+:\d+", server.stderr.readline())
    assert found
    address = found[0]
    while True:
        try:
            httpx.get(f"{address}/healthz")
            break
        except httpx.ConnectError:
            time.sleep(0.05)

    def ask(index: int) -> float:
        began = time.perf_counter()
        answer = httpx.post(f"{address}/v1/deblur", content=files[index % 8], timeout=120)
        seconds = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        pixels = read_photo(answer.content).pixels[::16, ::16].astype(int)
        errors = [np.abs(pixels - each).mean() for each in expected]
        assert int(np.argmin(errors)) == index % 8, "an answer belongs to another request"
        assert min(errors) < 3  # JPEG
        return seconds

    try:
        ask(0)
        alone = [ask(index) for index in range(8)]
        compute = statistics.median(engine)
        p50 = statistics.median(alone)
        print(
            f"one client: p50 {p50:.2f} s, engine alone {compute:.2f} s, ratio {p50 / compute:.2f}"
        )
        memory = []
        began = time.perf_counter()
        with ThreadPoolExecutor(args.clients) as pool:
            seconds = []
            for number, each in enumerate(pool.map(ask, range(args.requests)), 1):
                seconds.append(each)
                if number % 20 == 0:
                    memory.append(resident(server.pid))
        passed = time.perf_counter() - began
        rate = args.requests * args.megapixels / passed
        print(
            f"{args.clients} clients, {args.requests} requests of {args.megapixels:g} MP: no error,"
            f" p50 {statistics.median(seconds):.2f} s, {rate:.2f} MP/s"
        )
        first, last = statistics.mean(memory[1:4]), statistics.mean(memory[-3:])
        print(
            f"memory every 20 requests: {', '.join(f'{m:.0f}' for m in memory)} MB; "
            f"drift {100 * (last / first - 1):+.1f} %"
        )
        for what, content in {
            "no photo": b"hello" * 1000,
            "damaged header": b"\x89PNG\r\n\x1a\n" + b"\0" * 100_000,
            "too large": b"\0" * 65_000_000,
        }.items():
            began = time.perf_counter()
            answer = httpx.post(f"{address}/v1/deblur", content=content)
            passed = 1000 * (time.perf_counter() - began)
            print(f"refused ({what}): {answer.status_code} in {passed:.0f} ms")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
