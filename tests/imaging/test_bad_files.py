"""Hostile, damaged and mislabelled files: one clear line, nothing half-written."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import SCENE
from unblur.imaging import (
    ImageError,
    Photo,
    check_photo,
    encode_photo,
    parse_format,
    probe_size,
    read_photo,
    write_photo,
)
from unblur.imaging.animation import is_animation

FILES = {
    extension: encode_photo(Photo(SCENE[:64, :96]), parse_format(extension))
    for extension in ("jpg", "png", "tif", "webp", "avif", "bmp")
}
FILES["16.png"] = encode_photo(Photo(SCENE[:64, :96].astype(np.uint16) * 257))
FILES["16.tif"] = encode_photo(Photo(SCENE[:64, :96].astype(np.uint16) * 257), parse_format("tif"))


def one_line(error: pytest.ExceptionInfo[ImageError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", sorted(FILES))
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.98))
def test_truncated_files(name: str, share: float) -> None:
    data = FILES[name]
    with pytest.raises(ImageError) as error:
        read_photo(data[: int(share * len(data))])
    one_line(error)


@pytest.mark.parametrize("name", sorted(FILES))
@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1), value=st.binary(min_size=1, max_size=8))
def test_damaged_files_never_crash(name: str, place: float, value: bytes) -> None:
    data = bytearray(FILES[name])
    at = int(place * (len(data) - len(value)))
    data[at : at + len(value)] = value
    try:
        assert read_photo(bytes(data), max_pixels=10**6).pixels.ndim in (2, 3)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017 (reading damaged bytes may also succeed)


def test_files_that_are_no_photos(tmp_path: Path) -> None:
    cases = {
        "empty.jpg": (b"", "is empty"),
        "text.png": (b"hello, I am text" * 9, "is not a PNG image"),
        "zip.jpg": (b"PK\x03\x04" + b"\0" * 99, "is not a JPEG image"),
        "unknown": (b"\x01\x02\x03" * 50, "is not a known image"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=message) as error:
            read_photo(tmp_path / name)
        assert name in one_line(error)
    with pytest.raises(ImageError, match="no such file"):
        read_photo(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_photo(tmp_path)


def test_mislabelled_files_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(FILES["png"])
    with pytest.raises(ImageError, match=r"mislabelled.*PNG.*rename it to end in \.png") as error:
        read_photo(path)
    one_line(error)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)  # 900 MP in 110 kB
    began = time.perf_counter()
    with pytest.raises(ImageError, match=r"MP.*--max-pixels") as error:
        read_photo(path)
    one_line(error)
    assert time.perf_counter() - began < 1
    with pytest.raises(ImageError, match="more than the limit of 1 MP"):
        read_photo(encode_photo(Photo(np.zeros((1001, 1000), np.uint8))), max_pixels=10**6)


@pytest.mark.parametrize(
    ("format_name", "word"),
    [("GIF", "frames"), ("WEBP", "frames"), ("PNG", "frames"), ("TIFF", "pages")],
)
def test_animations_and_pages_are_refused(scene: np.ndarray, format_name: str, word: str) -> None:
    frames = [Image.fromarray(scene[:30, i : i + 40]) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format_name, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=f"holds several {word}"):
        read_photo(buffer.getvalue())


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_images_are_refused(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8)).save(buffer, "TIFF")
    with pytest.raises(ImageError, match="32-bit"):
        read_photo(buffer.getvalue())


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    photo = Photo(np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="exists already"):
        write_photo(photo, path)
    assert path.read_bytes() == b"precious"
    write_photo(photo, path, overwrite=True)
    assert read_photo(path).pixels.shape == (4, 4)


def test_unwritable_targets_leave_nothing(tmp_path: Path) -> None:
    photo = Photo(np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="unknown format"):
        write_photo(photo, tmp_path / "a.xyz")
    with pytest.raises(ImageError, match="cannot be written"):
        write_photo(photo, tmp_path / "no" / "such" / "folder.png")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match="No space left on device"):
        write_photo(Photo(np.zeros((4, 4), np.uint8)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """SIGKILL in the middle of rewriting a file, again and again: it is always a whole photo."""
    path = tmp_path / "photo.png"
    script = (
        "import sys, numpy as np\n"
        "from unblur.imaging import Photo, write_photo\n"
        "rng = np.random.default_rng(0)\n"
        "photo = Photo(rng.integers(0, 256, (700, 900, 3), np.uint8))\n"
        "write_photo(photo, sys.argv[1], overwrite=True)\n"
        "print('ready', flush=True)\n"
        "while True: write_photo(photo, sys.argv[1], overwrite=True)\n"
    )
    for delay in (0.0, 0.03, 0.07, 0.11):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()
        process.wait()
        assert read_photo(path).pixels.shape == (700, 900, 3)
    visible = [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")]
    assert visible == ["photo.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    for name in ("pipe.jpg", "pipe.gif"):
        os.mkfifo(tmp_path / name)
        assert probe_size(tmp_path / name) == (0, 0)
        assert not is_animation(tmp_path / name)
        with pytest.raises(ImageError, match="no regular file"):
            read_photo(tmp_path / name)


def test_pages_without_end_are_not_counted() -> None:
    page = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, 1), (257, 1), (273, 8))
    )
    size = len(page) + 4
    pages = (page + struct.pack("<I", 8 + (number + 1) * size) for number in range(50_000))
    content = b"II*\0\x08\0\0\0" + b"".join(pages)
    began = time.perf_counter()
    with pytest.raises(ImageError, match="holds several pages"):
        read_photo(content)
    assert time.perf_counter() - began < 2  # all of them take ten


def test_passes_without_end_are_not_made() -> None:
    """Each scan of a progressive JPEG passes over all pixels, though it may hold nothing."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    place = data.rindex(b"\xff\xda")
    scan = data[place:-2]
    assert read_photo(data[:-2] + 100 * scan + data[-2:]).width == 64
    with pytest.raises(ImageError, match="built to take long"):
        read_photo(data[:-2] + 1000 * scan + data[-2:])
    with pytest.raises(ImageError, match="built to take long"):
        check_photo(io.BytesIO(data[:-2] + 1000 * scan + data[-2:]))


def test_the_longest_legal_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'字' * 80}.png"
    write_photo(Photo(np.zeros((4, 4), np.uint8)), path)
    assert read_photo(path).pixels.shape == (4, 4)


def test_heic_named_jpg_is_mislabelled(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    write_photo(Photo(SCENE[:64, :64], format="HEIF"), tmp_path / "a.heic")
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="mislabelled, this is a HEIF image"):
        read_photo(tmp_path / "a.jpg")
    assert read_photo(content).pixels.shape == (64, 64, 3)
