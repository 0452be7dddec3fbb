"""Animated GIF and WebP: every frame, for as long as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageSequence
from typer.testing import CliRunner, Result

from unblur.cli import app
from unblur.imaging.animation import encode_animation, is_animation, read_animation
from unblur.inference import Deblurrer


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def animate(path: Path, scene: np.ndarray, **options: object) -> Path:
    frames = []
    for index in range(5):
        picture = Image.fromarray(scene[300:364, 100 + 9 * index : 196 + 9 * index])
        frame = picture.filter(ImageFilter.GaussianBlur(1)).convert("RGBA")
        frame.putalpha(
            Image.fromarray(
                np.where(np.arange(96) < 20, 0, 255).astype(np.uint8)[None].repeat(64, 0)
            )
        )
        frames.append(frame)
    settings = {"duration": [50, 70, 90, 110, 130], "loop": 0, "disposal": 2, **options}
    if path.suffix == ".webp":
        settings.pop("disposal")
        settings["lossless"] = True
    frames[0].save(path, save_all=True, append_images=frames[1:], **settings)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_every_frame_is_restored(
    name: str, scene: np.ndarray, tmp_path: Path, small: Deblurrer
) -> None:
    path = animate(tmp_path / name, scene, loop=3)
    before = path.read_bytes()
    result = unblur(path)
    assert result.exit_code == 0, result.output
    made = path.with_name(f"a_sharp{path.suffix}")
    with Image.open(path) as source, Image.open(made) as target:
        assert target.n_frames == 5
        assert target.info["loop"] == source.info["loop"] == 3
        for index, (first, second) in enumerate(
            zip(ImageSequence.Iterator(source), ImageSequence.Iterator(target), strict=True)
        ):
            given = np.asarray(first.convert("RGBA"))
            restored = np.asarray(second.convert("RGBA")).astype(int)
            assert np.array_equal(given[:, :, 3], restored[:, :, 3])
            seen = given[:, :, 3] > 0
            expected = small.restore_pixels(given[:, :, :3])[seen].astype(int)
            assert np.abs(restored[:, :, :3][seen] - expected).mean() < 4  # 256 colours, or lossy
            sharp = scene[300:364, 100 + 9 * index : 196 + 9 * index][seen].astype(int)
            wrong = [np.square(each - sharp).mean() for each in (given[:, :, :3][seen], expected)]
            assert wrong[1] < 0.9 * wrong[0]
    assert path.read_bytes() == before
    durations = [read_animation(each, 10**6).durations for each in (path, made)]
    assert durations == [[50, 70, 90, 110, 130]] * 2


def test_a_round_trip_without_loss(scene: np.ndarray, tmp_path: Path) -> None:
    animation = read_animation(animate(tmp_path / "a.webp", scene), 10**6)
    again = tmp_path / "b.webp"
    again.write_bytes(encode_animation(animation, iter(animation.frames), quality=100))
    second = read_animation(again, 10**6)
    assert second.durations == animation.durations
    visible = [frame * (frame[:, :, 3:] > 0) for frame in animation.frames]
    shown = [frame * (frame[:, :, 3:] > 0) for frame in second.frames]
    assert all(np.array_equal(a, b) for a, b in zip(visible, shown, strict=True))


@pytest.mark.parametrize("loop", [None, 0, 1, 3])
@pytest.mark.parametrize("hole", [0, 20])
def test_a_gif_loses_nothing_by_being_written(
    scene: np.ndarray, tmp_path: Path, loop: int | None, hole: int
) -> None:
    path = tmp_path / "a.gif"
    frames = []
    for index in range(3):
        picture = Image.fromarray(scene[300:364, 100 + 9 * index : 196 + 9 * index]).quantize(255)
        pixels = np.asarray(picture).copy()
        pixels[:, :hole] = 255
        frame = Image.fromarray(pixels, "P")
        frame.putpalette(picture.getpalette() or [])
        if hole:
            frame.info["transparency"] = 255
        frames.append(frame)
    options = {} if loop is None else {"loop": loop}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=50, disposal=2, **options
    )
    animation = read_animation(path, 10**6)
    assert animation.loop == loop
    assert (animation.frames[0][:, :, 3] == 0).mean() == pytest.approx(hole / 96)
    path.write_bytes(encode_animation(animation, iter(animation.frames)))
    again = read_animation(path, 10**6)
    assert again.loop == loop
    for first, second in zip(animation.frames, again.frames, strict=True):
        assert np.array_equal(first[:, :, 3], second[:, :, 3])
        seen = first[:, :, 3] > 0
        assert np.array_equal(first[seen], second[seen])


def test_in_a_folder_with_stills(scene: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    animate(folder / "a.gif", scene)
    Image.fromarray(scene[:64, :64]).save(folder / "still.gif")
    cut = animate(folder / "cut.webp", scene)
    cut.write_bytes(cut.read_bytes()[:700])
    result = unblur(folder, "--compare")
    assert result.exit_code == 1
    made = {path.name for path in (tmp_path / "album_sharp").iterdir()}
    assert made == {"a.gif", "still.png", "still_compare.jpg"}
    assert "a.gif: is animated: no before/after picture was made" in result.output
    assert "cut.webp" in result.output
    again = unblur(folder, "--skip-existing")
    assert "skipped" in again.output
    other = unblur(folder / "a.gif", "-o", tmp_path / "a.png")
    assert other.exit_code == 1
    assert "stays a GIF" in other.output
    small = unblur(folder / "a.gif", "-o", tmp_path / "b.gif", "--max-pixels", "0.01")
    assert "more than the limit" in small.output


def test_what_is_an_animation(scene: np.ndarray, tmp_path: Path) -> None:
    assert is_animation(animate(tmp_path / "a.gif", scene))
    Image.fromarray(scene[:9, :9]).save(tmp_path / "b.gif")
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    assert not any(is_animation(tmp_path / name) for name in ("b.gif", "c.gif", "d.gif", "e.png"))
