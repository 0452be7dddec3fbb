"""Archives: every photo once, whatever dies on the way, on processes and on Ray."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import heed_interrupts
from unblur.bulk import BulkError, Settings, plan_bulk, run_bulk
from unblur.bulk.places import Place
from unblur.bulk.run import read_rows
from unblur.bulk.work import SCHEMA, Worker, output_name
from unblur.cli import app
from unblur.imaging import read_photo
from unblur.inference import Deblurrer
from unblur.models import create_model
from unblur.models.checkpoint import save_checkpoint

UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()", "bulk"]


@pytest.fixture
def archive(tmp_path: Path, scene: np.ndarray) -> Path:
    """Forty photos in folders, one of them damaged, and other files."""
    folder = tmp_path / "archive"
    for index in range(40):
        part = scene[8 * index : 8 * index + 64, 10 * index : 10 * index + 80]
        place = folder / f"{index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part).save(place / f"{index}.{'jpg' if index % 2 else 'png'}")
    (folder / "0" / "0.png").write_bytes(b"damaged")
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(b"hidden")
    Image.fromarray(scene[:64, :64]).convert("P").save(folder / "a.gif")
    Image.fromarray(scene[:64, :64]).save(folder / "a.png")
    return folder


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bulk", *map(str, arguments)])


def manifest(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "_unblur" / "manifest.parquet").to_pylist()


def outputs(folder: Path) -> set[str]:
    """All files but the manifest's; nothing half-written may be left."""
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {name for name in found if not name.startswith("_unblur")}


def check(archive: Path, results: Path, small: Deblurrer) -> None:
    """Every photo has its one row and its one right output."""
    rows = manifest(results)
    names = {str(p.relative_to(archive)) for p in archive.rglob("*.*")} - {
        "notes.txt",
        ".hidden.png",
    }
    assert [row["input"] for row in rows] == sorted(names)
    good = [row for row in rows if row["status"] == "ok"]
    assert {row["input"] for row in rows if row["status"] == "failed"} == {"0/0.png"}
    assert {row["output"] for row in good} == outputs(results)
    assert len({row["output"] for row in good}) == len(good) == 41
    for row in good[::9]:
        source = read_photo(archive / str(row["input"]))
        made = read_photo(results / str(row["output"]))
        expected = small.restore_pixels(source.pixels)
        assert (row["width"], row["height"]) == (source.width, source.height)
        assert np.abs(made.pixels.astype(int) - expected).mean() < 2  # JPEG


def test_on_processes(archive: Path, tmp_path: Path, small: Deblurrer) -> None:
    results = tmp_path / "results"
    first = unblur(archive, results, "--workers", "2", "--runtime", "onnxruntime")
    assert first.exit_code == 1
    assert "0/0.png" in first.output
    check(archive, results, small)
    times = {name: (results / name).stat().st_mtime_ns for name in outputs(results)}
    # What failed is tried again; what is done stays as it is.
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(archive / "0" / "0.png")
    again = unblur(archive, results, "--workers", "1", "--runtime", "onnxruntime")
    assert again.exit_code == 0, again.output
    assert "1 photos to restore, 41 done before" in again.output
    assert {row["status"] for row in manifest(results)} == {"ok"}
    assert all((results / name).stat().st_mtime_ns == when for name, when in times.items())
    for options, named in (
        (["--strength", "0.5"], "strength"),
        (["--runtime", "openvino-bf16"], "precision"),
    ):
        other = unblur(archive, results, *options)
        assert other.exit_code == 2
        assert f"other settings ({named})" in other.output


def test_a_killed_run_goes_on(archive: Path, tmp_path: Path, small: Deblurrer) -> None:
    results = tmp_path / "results"
    command = [*UNBLUR, str(archive), str(results), "--workers", "1", "--runtime", "onnxruntime"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while not list(results.glob("_unblur/parts/*")):
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (results / "_unblur" / "manifest.parquet").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1, again.stderr  # of the damaged one
    assert "0 done before" not in again.stderr
    check(archive, results, small)


@pytest.fixture
def ray_cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_worker_that_dies_loses_nothing(
    engine: str,
    archive: Path,
    tmp_path: Path,
    small: Deblurrer,
    request: pytest.FixtureRequest,
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_cluster")
    results = tmp_path / "results"
    plan = plan_bulk(str(archive), str(results), Settings(runtime="onnxruntime"))
    killed = []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            rows = pq.read_table(results / "_unblur/parts").to_pylist()
            killed.append(int(str(rows[0]["worker"]).rpartition("/")[2]))
            os.kill(killed[0], signal.SIGKILL)

    totals = run_bulk(plan, engine, workers=2, progress=kill_one)
    assert killed
    assert (totals.ok, totals.failed) == (41, 1)
    check(archive, results, small)


def test_workers_that_die_while_nobody_looks(
    archive: Path, tmp_path: Path, small: Deblurrer
) -> None:
    results = tmp_path / "results"
    plan = plan_bulk(str(archive), str(results), Settings(runtime="onnxruntime"))
    killed = []

    def kill_all(done: int, total: int) -> None:
        if not killed:  # what was in work is finished first, so that the next to be sent is refused
            while len(list(results.glob("_unblur/parts/*"))) < 2:
                time.sleep(0.01)
            time.sleep(0.5)
            for child in multiprocessing.active_children():
                child.kill()
                killed.append(child.pid)
            time.sleep(1)

    totals = run_bulk(plan, workers=2, progress=kill_all)
    assert killed
    assert len(list(results.glob("_unblur/parts/*"))) == 3  # the rest was not done one by one
    assert (totals.ok, totals.failed) == (41, 1)
    check(archive, results, small)


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_photo_that_ends_its_worker_costs_no_other(
    failed_before: bool,
    archive: Path,
    tmp_path: Path,
    small: Deblurrer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = tmp_path / "results"
    if failed_before:
        strict = Settings(runtime="onnxruntime", max_pixels=1000)
        totals = run_bulk(plan_bulk(str(archive), str(results), strict), workers=1)
        assert (totals.ok, totals.failed) == (0, 42)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\n"
        "import unblur.bulk.work as work\n"
        "read = work.read_photo\n"
        "def deadly(content, most, name):\n"
        "    if name == '0/0.png':\n"
        "        os._exit(9)\n"
        "    return read(content, most, name)\n"
        "work.read_photo = deadly\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    plan = plan_bulk(str(archive), str(results), Settings(runtime="onnxruntime"))
    totals = run_bulk(plan, "local", workers=2)
    assert (totals.ok, totals.failed) == (41, 1)
    assert "crashed" in totals.errors[0]
    check(archive, results, small)
    # And one that crashed can fail otherwise the next time.
    monkeypatch.delenv("PYTHONPATH")
    again = run_bulk(plan_bulk(str(archive), str(results), Settings(runtime="onnxruntime")))
    assert (again.ok, again.failed) == (41, 1)
    assert "crashed" not in again.errors[0]


def test_crashes_of_older_manifests_had_no_time(archive: Path, tmp_path: Path) -> None:
    row = dict.fromkeys(SCHEMA.names) | {"input": "a.png", "status": "failed", "error": "crashed"}
    target = Place(str(tmp_path / "results"))
    for name, finished in (("manifest", None), ("parts/1", 1_700_000_000_000)):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row | {"finished": finished}], SCHEMA), buffer)
        target.write(f"_unblur/{name}.parquet", buffer.getvalue())
    (found,) = read_rows(target)
    assert found["finished"] is not None
    assert "a.png" in plan_bulk(str(archive), target.address, Settings()).names


def test_an_interrupted_run_ends_soon(archive: Path, tmp_path: Path, scene: np.ndarray) -> None:
    for index in range(200):
        Image.fromarray(scene[: 100 + index, :200]).save(archive / f"more{index}.png")
    results = tmp_path / "results"
    command = [*UNBLUR, str(archive), str(results), "--workers", "1", "--runtime", "onnxruntime"]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_interrupts
    )
    while not list(results.glob("_unblur/parts/*")):
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(60) == 130
    assert len(outputs(results)) < 100


def test_a_batch_done_twice_is_one(archive: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    worker = Worker(str(archive), str(results), Settings(runtime="onnxruntime"))
    worker(["a.png", "a.gif"])
    before = outputs(results)
    worker(["a.png", "a.gif"])
    assert outputs(results) == before == {"a.png", "a.gif.png"}
    assert len(list(results.glob("_unblur/parts/*"))) == 1


def test_a_source_that_vanishes(archive: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    plan = plan_bulk(str(archive), str(results), Settings(runtime="onnxruntime"))
    for name in ("1/1.jpg", "1/4.png"):
        (archive / name).unlink()
    totals = run_bulk(plan, workers=1)
    assert (totals.ok, totals.failed) == (39, 3)
    assert any("1/1.jpg" in error for error in totals.errors)


def test_other_file_systems(scene: np.ndarray, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    picture = tmp_path / "p.png"
    Image.fromarray(scene[:64, :64]).save(picture)
    memory.pipe("/bucket/2026/p.png", picture.read_bytes())
    place = Place("memory://bucket")
    assert list(place.photos()) == ["2026/p.png"]
    worker = Worker("memory://bucket", "memory://results", Settings(runtime="onnxruntime"))
    (row,) = worker(["2026/p.png"])
    assert row["status"] == "ok", row["error"]
    assert read_photo(memory.cat("/results/2026/p.png")).pixels.shape == (64, 64, 3)
    assert Place("memory://results").names("_unblur/parts")


def test_places_that_are_none(archive: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(archive)
    for source, destination, message in (
        (tmp_path / "none", tmp_path / "r", "cannot be listed"),
        (archive, archive / "sharp", "lies in the source"),
        (archive, f"{archive.parent}/./archive", "lies in the source"),
        (archive, link, "lies in the source"),
        (archive / "0", archive, "the source lies in it"),
        ("nothing://bucket", tmp_path / "r", "cannot be opened"),
    ):
        with pytest.raises(BulkError, match=message):
            plan_bulk(str(source), str(destination), Settings())
        assert unblur(source, destination).exit_code == 2
    assert unblur(archive, tmp_path / "r", "--engine", "spark").exit_code == 2


def test_nothing_of_others_is_replaced(archive: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    mine = results / "1" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (results / "other.jpg").write_bytes(b"no result has this name")
    with pytest.raises(BulkError, match=r"holds other photos .* such as 1/1\.jpg"):
        plan_bulk(str(archive), str(results), Settings())
    assert outputs(results) == {"1/1.jpg", "other.jpg"}
    assert not (results / "_unblur").exists()
    mine.unlink()
    assert plan_bulk(str(archive), str(results), Settings()).names


def test_two_photos_do_not_become_one(tmp_path: Path, scene: np.ndarray) -> None:
    source, results = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    for name, kind, level in (("a.jpg", "JPEG", 250), ("a.jpg.webp", "WEBP", 5)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(source / name, kind)
    made = unblur(source, results, "--format", "webp", "--workers", 1, "--runtime", "onnxruntime")
    assert made.exit_code == 1
    assert "a.jpg: its result would have the name of another photo's, a.jpg.webp" in made.output
    assert outputs(results) == {"a.jpg.webp"}
    assert read_photo(results / "a.jpg.webp").pixels.max() < 30


def test_a_device_that_is_not_there(archive: Path, tmp_path: Path) -> None:
    made = unblur(archive, tmp_path / "r", "--runtime", "onnxruntime", "--device", "cuda:7")
    assert made.exit_code != 0
    assert "cuda:7" in made.output
    assert "crashed" not in made.output
    assert outputs(tmp_path / "r") == set()


def test_names_that_are_no_text(tmp_path: Path, scene: np.ndarray) -> None:
    source, results = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    for name in (b"good.png", b"caf\xe9.png", b"notes\xe9.txt"):
        with (source / os.fsdecode(name)).open("wb") as file:
            Image.fromarray(scene[:64, :64]).save(file, "PNG")
    made = unblur(source, results, "--workers", 1, "--runtime", "onnxruntime")
    assert made.exit_code == 1
    assert "caf?.png: its name is not UTF-8" in made.output
    assert outputs(results) == {"good.png"}
    assert [row["status"] for row in manifest(results)] == ["failed", "ok"]


def test_linked_folders_are_not_entered(tmp_path: Path, scene: np.ndarray) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(scene[:64, :64]).save(source / "a.png")
    (source / "round").symlink_to(source)
    (source / "linked.png").symlink_to(source / "a.png")
    assert list(Place(str(source)).photos()) == ["a.png", "linked.png"]


def test_a_full_destination(tmp_path: Path, scene: np.ndarray) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "source").mkdir()
    Image.fromarray(scene[:64, :64]).save(tmp_path / "source" / "a.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # of processes that it starts, too
    try:
        result = unblur(tmp_path / "source", tmp_path / "results", "--workers", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 2
    assert "results: cannot be written" in result.output
    assert "run it again to go on" in result.output
    assert unblur(tmp_path / "source", tmp_path / "results", "--workers", "1").exit_code == 0


def test_settings_are_those_of_results(tmp_path: Path, scene: np.ndarray) -> None:
    source, results = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    assert "no photos found" in unblur(source, results).output
    assert not results.exists()
    (source / "a.png").write_bytes(b"damaged")
    assert unblur(source, results, "--workers", 1, "--runtime", "onnxruntime").exit_code == 1
    Image.fromarray(scene[:64, :64]).save(source / "a.png")
    assert unblur(source, results, "--runtime", "torch").exit_code == 1  # not for an ONNX file
    made = unblur(source, results, "--strength", 0.5, "--runtime", "onnxruntime")
    assert made.exit_code == 0, made.output
    assert "other settings (strength)" in unblur(source, results).output


def test_photos_of_one_name_from_two_sources(tmp_path: Path, scene: np.ndarray) -> None:
    for year, left in (("2023", 0), ("2024", 100)):
        place = tmp_path / year / "_unblurred"  # no folder of ours
        place.mkdir(parents=True)
        Image.fromarray(scene[:64, left : left + 64]).save(place / "a.png")
    results, runtime = tmp_path / "results", ("--runtime", "onnxruntime")
    assert unblur(tmp_path / "2023", results, *runtime).exit_code == 0
    other = unblur(tmp_path / "2024", results, *runtime)
    assert other.exit_code == 2
    assert "holds the results of" in other.output
    assert str(tmp_path / "2023") in " ".join(other.output.split())
    # Written otherwise it is the same place.
    again = unblur(f"{tmp_path}/2024/../2023/", results, *runtime)
    assert again.exit_code == 0, again.output
    assert (results / "_unblurred" / "a.png").is_file()


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    place, contents = Place(str(tmp_path)), [bytes([n]) * 300_000 for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            list(pool.map(lambda content: place.write("a/b.png", content), contents))
            assert (tmp_path / "a" / "b.png").read_bytes() in contents
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


def test_a_checkpoint(tmp_path: Path, scene: np.ndarray) -> None:
    network = create_model("plain_cnn", width=4, depth=2)
    save_checkpoint(tmp_path / "c.safetensors", "plain_cnn", {"width": 4, "depth": 2}, network)
    source, results = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    Image.fromarray(scene[:64, :64]).save(source / "a.png")
    made = unblur(source, results, "--workers", 1, "--model", tmp_path / "c.safetensors")
    assert made.exit_code == 0, made.output
    assert outputs(results) == {"a.png"}
    other = create_model("plain_cnn", width=4, depth=2)
    save_checkpoint(tmp_path / "c.safetensors", "plain_cnn", {"width": 4, "depth": 2}, other)
    again = unblur(source, results, "--model", tmp_path / "c.safetensors")
    assert "other settings (weights)" in again.output


def test_names_of_outputs() -> None:
    assert output_name("a/b.JPG", None) == "a/b.JPG"
    assert output_name("a/b.gif", None) == "a/b.gif.png"
    assert output_name("a/b.jpeg", "jpg") == "a/b.jpeg"
    assert output_name("a/b.png", "webp") == "a/b.png.webp"
