"""Clips: every frame at its time, everything else untouched, and runs that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from unblur.cli import app
from unblur.imaging import ImageError
from unblur.imaging.video import VideoReader
from unblur.inference import Deblurrer
from unblur.inference.temporal import Flicker, Steadier
from unblur.inference.video import VideoOptions, restore_video

av = pytest.importorskip("av")
UNBLUR = [sys.executable, "-c", "from unblur.cli import main; main()"]

Maker = Callable[..., Path]


@pytest.fixture
def clip(scene: np.ndarray, tmp_path: Path) -> Maker:
    """Makes a clip of a camera that pans over the scene, with sound and subtitles."""

    def make(
        name: str = "clip.mp4",
        frames: int = 12,
        size: tuple[int, int] = (128, 96),
        codec: str = "libx264",
        format_: str = "yuv420p",
        pts: Callable[[int], int] = lambda i: i,
        base: Fraction = Fraction(1, 10),
        sound: bool = True,
        still: bool = False,
        soft: bool = False,
        rotation: int = 0,
        tags: dict[str, int] | None = None,
    ) -> Path:
        path = tmp_path / name
        width, height = size
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=1 / base)
            video.width, video.height, video.pix_fmt = width, height, format_
            video.codec_context.time_base = video.time_base = base
            for key, value in (tags or {}).items():
                setattr(video.codec_context, key, value)
            if rotation:
                video.set_display_rotation(rotation)
            container.metadata["title"] = "a walk"
            audio = container.add_stream("aac", rate=48_000) if sound else None
            rng = np.random.default_rng(0)
            for index in range(frames):
                shift = 100 if still else 100 + 3 * index
                part = scene[200 : 200 + height, shift : shift + width].astype(int)
                if soft:
                    part = (part + np.roll(part, 1, 1) + np.roll(part, 2, 1)) // 3
                noisy = np.clip(part + rng.normal(0, 2, part.shape), 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(noisy, format="rgb24").reformat(format=format_)
                frame.pts, frame.time_base = pts(index), base
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if audio is not None:
                tone = np.sin(np.arange(48_000) / 30).astype(np.float32)[None]
                for start in range(0, 48_000 - 1024, 1024):
                    part = np.repeat(tone[:, start : start + 1024], 2, axis=0)
                    sample = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
                    sample.rate, sample.pts, sample.time_base = 48_000, start, Fraction(1, 48_000)
                    container.mux(audio.encode(sample))
                container.mux(audio.encode(None))
        return path

    return make


def pixels(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        demuxed = [p for p in container.demux(streams) if p.dts is not None]
        return [(round(float(p.pts * p.time_base), 3), bytes(p)) for p in demuxed]


def unblur(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_a_clip_becomes_a_clip(clip: Maker, small: Deblurrer) -> None:
    path = clip()
    before = path.read_bytes()
    result = unblur(path)
    assert result.exit_code == 0, result.output
    assert "flicker: " in result.output
    made = path.with_name("clip_sharp.mp4")
    assert times(made) == times(path)
    assert packets(made, "audio") == packets(path, "audio")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    with av.open(str(made)) as container:
        assert container.metadata["title"] == "a walk"
        assert container.streams.video[0].average_rate == 10
        assert container.streams.video[0].codec_context.name == "h264"
    shifts = []
    for given, restored in zip(pixels(path), pixels(made), strict=True):
        expected = small.restore_pixels(given).astype(int)
        assert np.abs(restored - expected).mean() < 3  # the codec
        shifts.append((restored - expected).mean())
    assert abs(np.mean(shifts)) < 0.2  # no colour is shifted, as a level would be in every frame


@pytest.mark.parametrize(
    ("name", "codec", "format_", "size"),
    [
        ("c.mkv", "libx264", "yuv420p", (128, 96)),
        ("c.mov", "libx265", "yuv420p10le", (128, 96)),
        ("c.webm", "libvpx-vp9", "yuv420p", (128, 96)),
        ("c.avi", "mpeg4", "yuv420p", (128, 96)),
        ("c.mkv", "libx264", "yuv444p", (129, 97)),
        ("c.mkv", "ffv1", "gray", (66, 64)),
    ],
)
def test_kinds_of_clips(
    name: str, codec: str, format_: str, size: tuple[int, int], clip: Maker, small: Deblurrer
) -> None:
    path = clip(name, frames=5, codec=codec, format_=format_, size=size, sound=name == "c.mkv")
    made = path.with_name(f"made{path.suffix}")
    restore_video(path, made, small, VideoOptions(strength=0, quality=90))
    with VideoReader(path, 10**6) as source, VideoReader(made, 10**6) as target:
        assert (target.info.width, target.info.height) == size
        wanted = {"mpeg4": "h264"}.get(source.info.codec, source.info.codec)
        assert target.info.codec == wanted
        assert target.info.frames_per_second == source.info.frames_per_second
        assert target.deep == source.deep
        pairs = zip(source.frames(0), target.frames(0), strict=True)
        for given, restored in pairs:
            assert given.pixels.dtype == restored.pixels.dtype
            white = np.iinfo(given.pixels.dtype).max
            assert np.abs(given.pixels.astype(float) - restored.pixels).mean() < 0.012 * white


def test_times_rotation_and_colours_are_kept(clip: Maker, small: Deblurrer) -> None:
    tags = {"color_primaries": 1, "color_trc": 1, "colorspace": 1, "color_range": 2}
    path = clip(
        pts=lambda i: i * i * 7 + 31, base=Fraction(1, 600), rotation=90, tags=tags, frames=9
    )
    made = path.with_name("made.mp4")
    restore_video(path, made, small, VideoOptions(strength=0))
    assert times(made) == pytest.approx(times(path), abs=1e-3)
    with VideoReader(path, 10**6) as source, VideoReader(made, 10**6) as target:
        assert source.info.rotation == target.info.rotation == 90 or source.info.rotation == -90
        assert source.info.rotation == target.info.rotation
        assert target.colours == source.colours
        assert target.colours["color_range"] == 2


def moments(scene: np.ndarray, count: int, size: tuple[int, int] = (128, 96)) -> list[np.ndarray]:
    width, height = size
    return [scene[200 : 200 + height, 100 + 4 * i : 100 + 4 * i + width] for i in range(count)]


def woven(
    path: Path, seen: list[np.ndarray], format_: str = "yuv420p", interlaced: bool = True
) -> Path:
    """A clip whose frames have the lines of two moments each."""
    height, width = seen[0].shape[:2]
    with av.open(str(path), "w") as container:
        fields = "bff=1:" if interlaced else ""
        options = {"crf": "4", "x264-params": f"{fields}bframes=0:keyint=5"}
        video = container.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = width, height, format_
        for first, second in zip(seen[::2], seen[1::2], strict=True):
            both = second.copy()
            both[1::2] = first[1::2]  # the lower field comes first
            container.mux(video.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(video.encode(None))
    return path


def combs(frames: list[np.ndarray]) -> float:
    """How much more lines differ from their neighbours than from those behind these."""
    grey = np.stack(frames).astype(float).mean(axis=3)
    return float(np.abs(np.diff(grey, axis=1)).mean() / np.abs(grey[:, 2:] - grey[:, :-2]).mean())


@pytest.mark.parametrize("format_", ["yuv420p", "yuv422p10le"])
def test_fields_become_whole_frames(format_: str, tmp_path: Path, scene: np.ndarray) -> None:
    seen = moments(scene, 24)
    path, made = woven(tmp_path / "c.mkv", seen, format_), tmp_path / "made.mkv"
    assert combs(pixels(path)) > 1.2
    result = unblur(path, "--strength", "0", "-o", made)
    assert result.exit_code == 0, result.output
    assert "was interlaced" in result.output
    assert times(made) == times(path)
    assert combs(pixels(made)) < 0.9
    for frame, first, second in zip(pixels(made), seen[::2], seen[1::2], strict=True):
        far = [np.abs(frame.astype(int) - moment).mean() for moment in (first, second)]
        assert far[0] < 0.6 * far[1]
    with VideoReader(made, 10**6) as reader:
        assert len(list(reader.frames(0))) == 12
        assert not reader.interlaced
        assert reader.info.pixel_format == format_
    with VideoReader(path, 10**6) as reader:  # a jump finds the same frames
        every = list(reader.frames(0))
        later = list(reader.frames(every[8].pts))
        assert [frame.pts for frame in later] == [frame.pts for frame in every[8:]]
        assert [frame.duration for frame in every] == [40] * 12
        assert np.array_equal(later[1].pixels, every[9].pixels)


@pytest.mark.parametrize(
    ("interlaced", "format_", "size"),
    [
        (False, "yuv420p", (128, 96)),  # a still picture before it begins
        (True, "yuv444p", (128, 96)),
        (True, "yuv420p", (64, 48)),
    ],
)
def test_clips_that_change(
    interlaced: bool,
    format_: str,
    size: tuple[int, int],
    tmp_path: Path,
    scene: np.ndarray,
    small: Deblurrer,
) -> None:
    before = woven(tmp_path / "a.mts", moments(scene, 6, size), format_, interlaced)
    behind = woven(tmp_path / "b.mts", moments(scene, 24))
    path, made = tmp_path / "both.mts", tmp_path / "made.mkv"
    path.write_bytes(before.read_bytes() + behind.read_bytes())
    result = restore_video(path, made, small, VideoOptions(strength=0))
    assert result.frames == 15
    assert result.notes
    assert combs(pixels(made)[4:]) < 0.9


def test_frames_too_small_for_the_filter(tmp_path: Path, small: Deblurrer) -> None:
    path = woven(tmp_path / "c.mkv", [np.zeros((64, 2, 3), np.uint8)] * 4)
    assert restore_video(path, tmp_path / "made.mkv", small, VideoOptions(strength=0)).frames == 2


def test_a_run_says_that_transparency_is_lost(clip: Maker) -> None:
    path = clip("c.mkv", frames=2, codec="ffv1", format_="bgra", sound=False)
    result = unblur(path)
    assert result.exit_code == 0, result.output
    assert "its transparency is not kept" in result.output


@pytest.mark.parametrize("start", [None, 0.5])
def test_chapters_of_a_part(
    clip: Maker, tmp_path: Path, small: Deblurrer, start: float | None
) -> None:
    marked = tmp_path / "marked.mkv"
    with av.open(str(clip(frames=20))) as source, av.open(str(marked), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        target.set_chapters(
            [
                {"id": i, "start": 800 * i, "end": 800 * i + 800, "time_base": Fraction(1, 1000)}
                | {"metadata": {"title": f"part {i}"}}
                for i in range(3)
            ]
        )
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    made = tmp_path / "part.mkv"
    restore_video(marked, made, small, VideoOptions(strength=0, start=start, duration=1.0))
    with av.open(str(made)) as container:
        found = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
            for c in container.chapters()
        ]
        titles = [c["metadata"]["title"] for c in container.chapters()]
    assert titles == ["part 0", "part 1"]
    wanted = [(0, 0.8), (0.8, 1.0)] if start is None else [(0, 0.3), (0.3, 1.0)]
    assert found == [pytest.approx(each, abs=0.03) for each in wanted]


def test_a_part_of_a_clip(clip: Maker) -> None:
    path = clip(frames=20)
    result = unblur(path, "--start", "0.5", "--duration", "0.75", "-o", path.with_name("part.mp4"))
    assert result.exit_code == 0, result.output
    made = path.with_name("part.mp4")
    assert times(made) == pytest.approx([i / 10 for i in range(8)])
    heard = packets(made, "audio")
    whole = {content: when for when, content in packets(path, "audio")}
    assert heard
    assert all(abs(whole[content] - 0.5 - when) < 0.03 for when, content in heard)
    none = unblur(path, "--start", "99")
    assert none.exit_code == 1
    assert "no frames" in none.output


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Grows by the shape of every frame that is restored in this process."""
    shapes: list[tuple[int, ...]] = []
    whole = Deblurrer.restore_pixels

    def counted(self: Deblurrer, frame: np.ndarray, *more: float) -> np.ndarray:
        shapes.append(frame.shape)
        return whole(self, frame, *more)

    monkeypatch.setattr(Deblurrer, "restore_pixels", counted)
    return shapes


def test_a_killed_run_goes_on(clip: Maker, restored: list[tuple[int, ...]]) -> None:
    path = clip(frames=150, size=(160, 120))
    whole, made = path.with_name("whole.mp4"), path.with_name("made.mp4")
    assert unblur(path, "-o", whole).exit_code == 0
    command = [*UNBLUR, "run", str(path), "-o", str(made)]
    work = path.with_name(".made.mp4.unblur")
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (work / "000000.json").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not made.exists()
    (work / "000001.nut").write_bytes(b"damaged")
    (work / "000001.json").write_text('{"sha256": "", "first": 0, "last": 0, "frames": 48}')
    restored.clear()
    again = unblur(path, "-o", made)
    assert again.exit_code == 0, again.output
    # The last frame of the segment that is kept is restored to compare the next one with.
    assert len(restored) == 150 - 48 + 1
    assert not work.exists()
    assert packets(made, "video") == packets(whole, "video")
    assert packets(made, "audio") == packets(path, "audio")


def test_what_is_of_something_else_begins_anew(clip: Maker, small: Deblurrer) -> None:
    path = clip(frames=4)
    made = path.with_name("made.mp4")
    work = path.with_name(".made.mp4.unblur")
    work.mkdir()
    (work / "plan.json").write_text("{}")
    (work / "000000.nut").write_bytes(b"of something else")
    restore_video(path, made, small)
    assert len(times(made)) == 4
    assert not work.exists()


@pytest.mark.parametrize("changed", ["nothing", "strength", "precision"])
def test_other_options_begin_anew(
    changed: str,
    clip: Maker,
    small: Deblurrer,
    restored: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = clip(frames=52)
    made = path.with_name("made.mp4")
    work = path.with_name(".made.mp4.unblur")

    def interrupt(_share: float) -> None:
        if (work / "000000.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(path, made, small, progress=interrupt)
    assert (work / "000000.json").exists()
    if changed == "precision":
        monkeypatch.setattr("unblur.inference.video.precision", lambda _runtime: "bf16")
    restored.clear()
    restore_video(path, made, small, VideoOptions(0.5 if changed == "strength" else 1.0))
    assert len(restored) == (52 - 48 + 1 if changed == "nothing" else 52)
    assert len(times(made)) == 52
    assert not work.exists()


def test_bad_clips(clip: Maker, small: Deblurrer, tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        audio = container.add_stream("aac", rate=48_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 48_000
        container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mkv"
    text.write_text("no clip")
    empty.write_bytes(b"")
    hdr = clip("hdr.mkv", frames=2, sound=False, tags={"color_trc": 16})
    aac = clip("aac.mp4", frames=2)
    for path, output, message in (
        (sound, "o.mp4", "holds no video"),
        (text, "o.mp4", "is not a clip"),
        (empty, "o.mkv", "is not a clip"),
        (tmp_path / "none.mp4", "o.mp4", "no such file"),
        (hdr, "o.mkv", r"HDR \(PQ\)"),
        (aac, "o.webm", "do not hold its audio"),
        (aac, "o.mpg", "use -o NAME.mkv"),
    ):
        with pytest.raises(ImageError, match=message):
            restore_video(path, tmp_path / output, small)
        assert not (tmp_path / output).exists()
        assert not (tmp_path / f".{output}.unblur").exists()
    for start in (float("nan"), float("inf")):
        with pytest.raises(ImageError, match="--start takes seconds"):
            restore_video(aac, tmp_path / "o.mp4", small, VideoOptions(start=start))
    with pytest.raises(ImageError, match="limit of"):
        restore_video(aac, tmp_path / "o.mp4", small, VideoOptions(max_pixels=10_000))
    with pytest.raises(ImageError, match="unknown codec"):
        restore_video(aac, tmp_path / "o.mp4", small, VideoOptions(codec="divx"))


def test_damaged_packets_are_left_out(clip: Maker, small: Deblurrer) -> None:
    path = clip("c.mkv", frames=40, sound=False)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = os.urandom(300)
    path.write_bytes(content)
    made = path.with_name("made.mkv")
    result = restore_video(path, made, small, VideoOptions(strength=0))
    assert 10 < result.frames <= 40
    assert result.missing == (40 - result.frames if result.frames < 40 else 0)
    assert len(times(made)) == result.frames


def reordered(path: Path, scene: np.ndarray, frames: int = 60, **options: str) -> list[np.ndarray]:
    """A clip whose frames depend on later ones, each with its number as brightness."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(frames):
            picture = np.full((64, 64, 3), 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return pixels(path)


@pytest.mark.parametrize("name", ["c.mts", "c.mkv", "c.mp4", "c.avi", "c.wmv"])
def test_frames_that_depend_on_later_ones(
    name: str, scene: np.ndarray, tmp_path: Path, small: Deblurrer
) -> None:
    path, made = tmp_path / name, tmp_path / f"made{Path(name).suffix}"
    options = {"g": "24", "bf": "3", "x264-params": "open-gop=1"}
    given = [round(float(p.mean())) for p in reordered(path, scene, **options)]
    assert len(given) == 60
    result = restore_video(path, made, small, VideoOptions(strength=0, quality=95))
    assert result.frames == 60
    levels = [round(float(p.mean())) for p in pixels(made)]
    assert np.abs(np.subtract(levels, given)).max() <= 2
    with VideoReader(path, 10**6) as reader:
        every = list(reader.frames(reader.start))
        times = np.array([frame.pts * reader.stream.time_base for frame in every], float)
        assert np.abs(np.diff(times) - 1 / 25).max() < 0.002
        if Path(name).suffix in {".avi", ".wmv"}:  # FFmpeg itself guesses later ones
            assert reader.start == 0
        for index in (1, 20, 23, 24, 25, 30, 47, 48, 59):
            head = next(reader.frames(every[index].pts))
            assert head.pts == every[index].pts
            assert np.array_equal(head.pixels, every[index].pixels)
    part = tmp_path / f"part{Path(name).suffix}"
    cut = VideoOptions(strength=0, quality=95, start=0.88, duration=0.4)
    assert restore_video(path, part, small, cut).frames == 10
    levels = [round(float(p.mean())) for p in pixels(part)]
    assert np.abs(np.subtract(levels, given[22:32])).max() <= 2


@pytest.mark.parametrize("extension", [".avi", ".wmv"])
def test_lost_frames_shift_no_others(extension: str, scene: np.ndarray, tmp_path: Path) -> None:
    whole, cut = tmp_path / f"whole{extension}", tmp_path / f"cut{extension}"
    reordered(whole, scene, g="12", bf="2")
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is not None and number >= 5:
                packet.stream = stream
                target.mux(packet)
    with VideoReader(whole, 10**6) as reader:
        times = {round(float(f.pixels.mean())): f.pts for f in reader.frames(reader.start)}
    with VideoReader(cut, 10**6) as reader:
        left = {round(float(f.pixels.mean())): f.pts for f in reader.frames(reader.start)}
    shifts = {times[level] - pts for level, pts in left.items() if level in times}
    assert len(left) > 30
    assert max(shifts) - min(shifts) <= 1  # milliseconds, of WMV


def test_names_of_clips(clip: Maker, small: Deblurrer, tmp_path: Path) -> None:
    path = clip(frames=2)
    for name in ("12:30.mp4", "夏" * 82 + ".mp4", "50 %d.mp4"):
        odd = tmp_path / name
        path.replace(odd)
        made = odd.with_name(f"m{name[1:]}")
        assert restore_video(odd, made, small).frames == 2
        path = odd
    latin = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    with pytest.raises(ImageError, match=r"caf.*its name is not UTF-8"):
        restore_video(latin, tmp_path / "o.mp4", small)
    with pytest.raises(ImageError, match=r"caf.*its name is not UTF-8"):
        restore_video(path, latin, small)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile 12.mp4\n")
    with pytest.raises(ImageError, match="is not a clip"):
        restore_video(playlist, tmp_path / "o.mp4", small)


def test_one_run_of_a_clip_at_a_time(clip: Maker, small: Deblurrer) -> None:
    path = clip(frames=6)
    made = path.with_name("made.mp4")

    def again(share: float) -> None:
        with pytest.raises(ImageError, match="another run"):
            restore_video(path, made, small)

    restore_video(path, made, small, progress=again)
    assert len(times(made)) == 6


def test_a_clip_that_was_cut_off(clip: Maker) -> None:
    path = clip("c.mkv", frames=60, sound=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = unblur(path)
    assert result.exit_code == 0
    assert "frames are missing" in result.output


def test_frames_that_are_shown_for_long_are_not_missing(clip: Maker) -> None:
    # As screen recordings are: a tenth of a second each, then a second each.
    path = clip("c.mkv", frames=30, sound=False, pts=lambda i: i if i < 20 else 10 * i - 180)
    result = unblur(path, "--strength", "0")
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_the_last_frame_is_shown_for_as_long(
    tmp_path: Path, scene: np.ndarray, extension: str
) -> None:
    """As of slides, or of a recording that ends on a still."""
    longer, made = tmp_path / f"longer.{extension}", tmp_path / f"made.{extension}"
    with av.open(str(longer), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        encoded = []
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(scene[index : 64 + index, :96], format="rgb24")
            frame.pts, frame.time_base = 100 * index, Fraction(1, 1000)
            encoded += video.encode(frame)
        encoded += video.encode(None)
        for packet in encoded:
            packet.duration = 3000 if packet is encoded[-1] else 100
            container.mux(packet)
    assert unblur(longer, "-o", made, "--strength", "0").exit_code == 0
    seconds = []
    for each in (longer, made):
        with av.open(str(each)) as container:
            seconds.append(container.duration / 1e6)
    assert seconds[0] > 3
    assert seconds[1] == pytest.approx(seconds[0], abs=0.05)
    assert unblur(longer, "-o", tmp_path / f"part.{extension}", "--duration", "1").exit_code == 0
    with av.open(str(tmp_path / f"part.{extension}")) as part:
        assert part.duration / 1e6 == pytest.approx(1, abs=0.05)


def test_iphones_clips_stay_theirs(tmp_path: Path, scene: np.ndarray) -> None:
    """Their tag, which Apple's players ask for, and what they say of place and time."""
    path, made = tmp_path / "a.mov", tmp_path / "b.mov"
    tags = {"com.apple.quicktime.make": "Apple", "title": "a walk"}
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", container_options=options) as container:
        container.metadata.update(tags)
        video = container.add_stream("libx265", rate=10, options={"x265-params": "log-level=none"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.codec_tag = "hvc1"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(scene[index : 64 + index, :96], format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert unblur(path, "-o", made, "--strength", "0").exit_code == 0
    with av.open(str(made)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
        assert tags.items() <= container.metadata.items()


def test_covers_and_what_streams_are_for_are_kept(clip: Maker, scene: np.ndarray) -> None:
    path = clip("plain.mp4", frames=3)
    marked, made = path.with_name("marked.mp4"), path.with_name("made.mp4")
    cover = av.CodecContext.create("png", "w")
    cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
    cover.time_base = Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(scene[:48, :64]), format="rgb24")
    kinds = av.stream.Disposition
    with av.open(str(path)) as origin, av.open(str(marked), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in origin.streams}
        streams[origin.streams.audio[0].index].disposition = kinds.comment
        drawn = target.add_stream("png")
        drawn.width, drawn.height, drawn.pix_fmt = 64, 48, "rgb24"
        drawn.disposition = kinds.attached_pic
        for packet in drawn.encode(picture):
            packet.pts = packet.dts = 0
            target.mux(packet)
        for packet in origin.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    assert unblur(marked, "-o", made, "--strength", "0").exit_code == 0
    told = []
    for each in (marked, made):
        with av.open(str(each)) as container:
            told.append(sorted((s.type, int(s.disposition)) for s in container.streams))
            cover_ = next(s for s in container.streams.video if s.disposition & kinds.attached_pic)
            told.append(next(bytes(p) for p in container.demux(cover_) if p.size))
    assert told[:2] == told[2:]


def test_frames_that_a_cut_hides_are_not_missing(clip: Maker, tmp_path: Path) -> None:
    """As programs leave them that cut clips without encoding anew: an edit list begins later."""
    path, cut = clip("whole.mp4", frames=30, sound=False), tmp_path / "cut.mp4"
    settings = {"avoid_negative_ts": "disabled"}
    with av.open(str(path)) as whole, av.open(str(cut), "w", options=settings) as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                shift = round(1 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                part.mux(packet)
    assert 0 < len(times(cut)) < 30
    result = unblur(cut, "--strength", "0")
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output


def test_sound_that_goes_on_is_no_sign_of_missing_frames(clip: Maker) -> None:
    path = clip("c.mkv", frames=5)  # half a second, with a second of sound
    result = unblur(path, "--strength", "0")
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output


@pytest.mark.parametrize(
    ("name", "codec", "format_"),
    [("c.mov", "mjpeg", "yuvj422p"), ("c.mkv", "ffv1", "yuv420p10le"), ("c.mov", "png", "rgb24")],
)
def test_odd_sizes_and_rgb(clip: Maker, name: str, codec: str, format_: str) -> None:
    path = clip(name, frames=3, size=(65, 49), codec=codec, format_=format_, sound=False)
    more = ["--codec", "hevc"] if codec == "ffv1" else []
    result = unblur(path, "--strength", "0", *more)
    assert result.exit_code == 0, result.output
    restored = path.with_name(f"c_sharp{path.suffix}")
    with av.open(str(restored)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (65, 49)
        assert "444" in frame.format.name or not frame.format.name.startswith("yuv")
        if frame.format.name.startswith("yuv"):
            assert stream.codec_context.colorspace != 0  # RGB's
    for made, given in zip(pixels(restored), pixels(path), strict=True):
        assert np.abs(made.astype(int) - given).mean() < 6


def test_options_that_do_not_fit(clip: Maker, photos: Path) -> None:
    path = clip(frames=2)
    photo = photos / "p0.png"
    for arguments, message in (
        ([path, "--format", "png"], "--format is for photos"),
        ([path, "--compare"], "--compare is for photos"),
        ([photo, "--temporal"], "--temporal is for clips"),
        ([path, "-o", path.with_name("x.png")], "a clip becomes a clip"),
        ([photo, "-o", path.with_name("x.mp4")], "a photo a photo"),
    ):
        result = unblur(*arguments)
        assert result.exit_code == 2
        assert message in result.output
    # In folders, clips are left alone.
    assert "left alone" in unblur(path.parent, "--no-recursive").output


def test_flicker_and_steadier() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 190, (64, 64, 3))
    flicker, steady, steadier = Flicker(), Flicker(), Steadier()
    for _ in range(12):
        noisy = (scene + rng.normal(0, 1, scene.shape)).round().astype(np.uint8)
        louder = (noisy + rng.normal(0, 4, scene.shape)).round().astype(np.uint8)
        flicker.add(noisy, louder)
        steady.add(noisy, steadier(noisy, louder))
    assert flicker.levels is not None
    assert steady.levels is not None
    before, after = flicker.levels
    assert before == pytest.approx(2 / np.sqrt(np.pi), rel=0.06)  # of two normal values' difference
    assert after > 3.5 * before
    assert steady.levels[1] < 0.6 * after
    # Where something moves, nothing is taken over from the frame before.
    moved = np.roll(scene, 9, axis=1).astype(np.uint8)
    sharp = np.clip(moved.astype(int) + 5, 0, 255).astype(np.uint8)
    assert np.abs(steadier(moved, sharp).astype(int) - sharp).mean() < 0.2


def test_temporal_makes_a_clip_steadier(clip: Maker, small: Deblurrer) -> None:
    path = clip("c.mkv", codec="ffv1", frames=8, still=True, soft=True, sound=False)
    levels = []
    for temporal in (False, True):
        options = VideoOptions(temporal=temporal)
        made = path.with_name(f"made{temporal}.mkv")
        levels.append(restore_video(path, made, small, options).flicker)
    assert levels[1][1] < levels[0][1]
