"""Clips ⇄ frames: decoding, encoding in segments, and putting both together with all else kept.

A clip's frames are encoded into segments, each a whole file; when all are there, their packets and
those of the source's other streams (sound, subtitles), copied untouched, make the new clip.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.files import printable
from unblur.imaging.errors import ImageError
from unblur.imaging.fields import WholeFrames
from unblur.imaging.metadata import require_sdr

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts"}
)
# Codecs by their names in files → encoders.
CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp9": "libvpx-vp9",
    "ffv1": "ffv1",  # lossless
}
_LARGEST_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
_OF_MPEGTS = {"h264", "hevc"}  # it takes anything, but players do not
_DEFAULT_QUALITY = 65  # CRF 18 of H.264: no loss that one sees
_RGB, _BT601 = 0, 5  # of H.273's matrix coefficients
# H.273's matrix coefficients → those that swscale knows; others are as good as BT.601.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_SEEK_BEFORE = (0.0, 2.0, 15.0)  # seconds before a time that a jump to it is tried from
_MOST_DAMAGED = 10_000  # packets
# They store when a frame is decoded, not when it is shown: frames that are shown in another order
# than they are stored in get the stored times one after another.
_WITHOUT_TIMES = {"avi", "asf"}
_OF_THE_OLD_STREAM = {"encoder", "duration"}
_READ_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,nut,ogg,gxf,mxf"
)
_SOUND_OF_MPEGTS = {"aac", "ac3", "eac3", "mp2", "mp3", "opus", "dca"}
_QUICKTIME = {"mp4", "mov"}
_SEGMENT_FORMAT = "nut"  # keeps any time base exactly

Pixels = NDArray[Any]


@dataclass(frozen=True)
class VideoInfo:
    """What a clip's header says. frames: about how many; rotation: in degrees, when shown."""

    width: int
    height: int
    frames: int
    seconds: float
    frames_per_second: float
    codec: str
    pixel_format: str
    rotation: int


@dataclass(frozen=True)
class Frame:
    """One whole picture: when it is shown, in the stream's time base, and H×W×3 pixels, uint8 or
    uint16."""

    pts: int
    duration: int
    pixels: Pixels


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a clip."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def require_av(name: str) -> Any:
    """The `av` module. Raises ImageError where it is missing."""
    try:
        import av
    except ImportError:
        raise ImageError(f"{name}: clips need: pip install 'unblur[video]'") from None
    # FFmpeg's threads must not call Python to log: they would wait for the lock that is held while
    # they are ended.
    av.logging.set_level(None)
    return av


def require_text(path: Path) -> None:
    """Raise ImageError for a name that FFmpeg cannot be told."""
    if printable(str(path)) != str(path):
        raise ImageError(f"{printable(str(path))}: its name is not UTF-8; rename it")


def _open(av: Any, path: Path) -> Any:
    """A clip, by its name alone: never a playlist, nor anything that a colon in it could mean."""
    options = {"protocol_whitelist": "file", "format_whitelist": _READ_FORMATS}
    return av.open(f"file:{path}", container_options=options)


class VideoReader:
    """A clip that is open for reading.

    damaged: packets that could not be decoded so far. reached, longest: the time of the last frame
    that was given out, and the longest between two. Raises ImageError for what is no clip of
    standard dynamic range.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        require_text(path)
        self._av = require_av(str(path))
        self.path, self.damaged = path, 0
        self.reached: int | None = None
        self.longest = 0
        try:
            self._container = _open(self._av, path)
        except FileNotFoundError:
            raise ImageError(f"{path}: no such file") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"{path}: is not a clip, or it is damaged ({_said(error)})") from None
        try:
            self.stream = self._main_stream()
            context = self.stream.codec_context
            if context is None or not context.width:
                raise ImageError(f"{path}: its video cannot be decoded")
            if context.width * context.height > max_pixels:
                raise ImageError(
                    f"{path}: {context.width}×{context.height} pixels are more than the limit of "
                    f"{max_pixels / 1e6:g} MP; raise --max-pixels if this is meant"
                )
            require_sdr(int(context.color_trc or 0), str(path))
            self._begin, self._first = self._peek()
            self._fields = WholeFrames(self._av, self.stream.time_base)
        except BaseException:
            self._container.close()
            raise

    def _main_stream(self, container: Any | None = None) -> Any:
        for stream in (container or self._container).streams.video:
            if not _is_cover(stream):
                return stream
        raise ImageError(f"{self.path}: holds no video")

    def _peek(self) -> tuple[int, Any]:
        """The first frame and its time, which know more than the header."""
        with _open(self._av, self.path) as container:
            for pts, frame in self._decoded(container, None):
                return pts, frame
        raise ImageError(f"{self.path}: not one of its frames can be decoded")

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._container.close()

    @property
    def info(self) -> VideoInfo:
        stream, context = self.stream, self.stream.codec_context
        rate = float(self.rate)
        seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if not seconds and self._container.duration:
            seconds = self._container.duration / 1e6
        return VideoInfo(
            width=context.width,
            height=context.height,
            frames=stream.frames or round(seconds * rate),
            seconds=seconds,
            frames_per_second=rate,
            codec=context.codec.canonical_name,
            pixel_format=self._first.format.name,
            rotation=int(self._first.rotation),
        )

    def missing(self, frames: int) -> int:
        """About how many frames a clip should have had besides these, all that it gave out.

        Some containers do not count them; there the time that is not reached tells, as frames may
        be shown for any time.
        """
        if self.stream.frames:
            left_out = int(self.stream.frames) - frames
            return max(0, left_out - self._hidden()) if left_out > 0 else 0
        seconds = self._own_seconds()
        if self.reached is None or seconds is None:
            return self.damaged
        left = seconds - float((self.reached - self.start) * self.stream.time_base)
        if left <= 2 * float(max(self.longest, self.step) * self.stream.time_base):
            return self.damaged
        return max(self.damaged, round(left * float(self.rate)))

    def _hidden(self) -> int:
        """Frames that the clip's own edit list leaves out: of a cut without encoding anew."""
        with _open(self._av, self.path) as container:
            packets = container.demux(self._main_stream(container))
            try:
                return sum(packet.is_discard for packet in packets)
            except self._av.error.FFmpegError:
                return 0  # it is damaged indeed

    def _own_seconds(self) -> float | None:
        """How long its video is; None where that is not told of it alone."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        tagged = re.fullmatch(r"(\d+):(\d\d):([\d.]+)", self.stream.metadata.get("DURATION", ""))
        if tagged:  # Matroska's
            hours, minutes, seconds = map(float, tagged.groups())
            return 3600 * hours + 60 * minutes + seconds
        return None if self.others or not self._container.duration else self.info.seconds

    @property
    def others(self) -> list[Any]:
        """The streams that are no video of this clip: sound, subtitles, covers, data."""
        return [s for s in self._container.streams if s.index != self.stream.index]

    @property
    def deep(self) -> bool:
        """Whether a colour has more than 8 bits."""
        return any(component.bits > 8 for component in self._first.format.components)

    @property
    def interlaced(self) -> bool:
        """Whether one of the frames so far held two fields."""
        return self._fields.found

    @property
    def transparent(self) -> bool:
        """Whether there is transparency, which frames are given out without."""
        beside = self.stream.metadata.get("alpha_mode") == "1"  # of VP8 and VP9
        return beside or any(component.is_alpha for component in self._first.format.components)

    @property
    def start(self) -> int:
        """When the first frame is shown, in the stream's time base."""
        return self._begin

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)

    @property
    def step(self) -> int:
        """The time from one frame to the next, where the clip does not say."""
        return max(1, round(1 / (self.rate * self.stream.time_base)))

    @property
    def rgb_format(self) -> str:
        """What its frames are decoded to."""
        return "rgb48le" if self.deep else "rgb24"

    @property
    def conversion(self) -> dict[str, Any]:
        """How its frames become RGB, and again what they were.

        swscale's default makes them darker by a level.
        """
        matrix = _MATRICES.get(self.colours["colorspace"], _BT601)
        ways = self._av.video.reformatter.Interpolation
        exact = ways.ACCURATE_RND | ways.FULL_CHR_H_INT | ways.FULL_CHR_H_INP | ways.BITEXACT
        return {
            "src_colorspace": matrix,
            "dst_colorspace": matrix,
            "interpolation": ways.BICUBIC | exact,
        }

    @property
    def colours(self) -> dict[str, int]:
        """The tags that say how values are to be understood."""
        names = ("color_primaries", "color_trc", "colorspace", "color_range")
        return {name: int(getattr(self._first, name)) for name in names}

    def colours_as(self, pixel_format: str) -> dict[str, int]:
        """Those tags for its frames in another format: RGB's matrix is none for YUV."""
        colours = self.colours
        if colours["colorspace"] == _RGB and pixel_format.startswith("yuv"):
            colours["colorspace"] = _BT601
        return colours

    def frames(self, first: int, last: float = math.inf) -> Iterator[Frame]:
        """The frames that are shown from `first` on and before `last`, of fields made whole ones.

        Damaged packets are left out and counted. Frames without a time get one that follows.
        """
        format_, conversion = self.rgb_format, self.conversion
        with contextlib.closing(self._from(first)) as found:
            for pts, frame in found:
                if pts >= last:
                    return
                if self.reached is not None:
                    self.longest = max(self.longest, pts - self.reached)
                self.reached = pts
                rgb = frame.reformat(format=format_, **conversion)
                yield Frame(pts, int(frame.duration or 0), rgb.to_ndarray())

    def _from(self, first: int) -> Generator[tuple[int, Any]]:
        """Decoded frames from a time on.

        A jump into a clip may end behind the time that was asked for, or at a frame whose
        predecessors are needed: then it starts from further before, in the end from the beginning.
        """
        # A jump would lose count of those that have no times of their own.
        from_beginning = first <= self.start or self._container.format.name in _WITHOUT_TIMES
        for seconds in (None,) if from_beginning else (*_SEEK_BEFORE, None):
            with _open(self._av, self.path) as container:
                if seconds is not None:
                    before = round(seconds / self.stream.time_base)
                    stream = self._main_stream(container)
                    container.seek(max(first - before, self.start), stream=stream)
                damaged = self.damaged
                decoded = self._fields.of(self._decoded(container, seconds))
                head = next(decoded, None)
                if head is None or (seconds is not None and head[0] > first):
                    self.damaged = damaged
                    if seconds is not None:
                        continue
                    return
                yield from (item for item in chain([head], decoded) if item[0] >= first)
                return

    def _decoded(self, container: Any, sought: float | None) -> Iterator[tuple[int, Any]]:
        """(time, frame) of all frames of a container, in order of their times."""
        stream = self._main_stream(container)
        errors = (self._av.error.InvalidDataError, self._av.error.FFmpegError)
        packets = container.demux(stream)
        stream.codec_context.copy_opaque = True
        stored: deque[int] | None = deque() if container.format.name in _WITHOUT_TIMES else None
        previous: int | None = None
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if stored is not None and packet.dts is not None and packet.size:
                    stored.append(packet.dts)
                    packet.opaque = packet.dts
                frames = packet.decode()
            except self._av.error.EOFError:
                return
            except errors:
                self.damaged += 1
                if stored:
                    stored.pop()
                if self.damaged > _MOST_DAMAGED:
                    raise ImageError(f"{self.path}: too much of it is damaged") from None
                continue
            for frame in frames:
                if frame.pts is None and previous is None and sought is not None:
                    return  # who knows where this is
                pts = frame.pts
                if stored is not None:
                    pts = _next_time(stored, frame)
                if pts is None or (previous is not None and pts <= previous):
                    pts = (stream.start_time or 0) if previous is None else previous + self.step
                previous = pts
                yield pts, frame


def _next_time(stored: deque[int], frame: Any) -> int | None:
    """The next of the stored times, after those of packets that no frame came of."""
    if frame.key_frame and frame.opaque is not None:
        while stored and stored[0] < frame.opaque:
            stored.popleft()
    return stored.popleft() if stored else None


class SegmentWriter:
    """Encodes frames into one file, in the colours and times of a source.

    There are no frames that depend on later ones, so that segments can be put together.
    """

    def __init__(self, path: Path, source: VideoReader, encoder: str, quality: int | None) -> None:
        self._av = require_av(str(path))
        self._container = self._av.open(f"file:{path}", "w", format=_SEGMENT_FORMAT)
        stream = source.stream
        self._stream = _add_encoder(self._av, self._container, encoder, source, quality)
        context = self._stream.codec_context
        # The container may choose another for itself.
        self._base = context.time_base = self._stream.time_base = stream.time_base
        context.sample_aspect_ratio = stream.sample_aspect_ratio or Fraction(1, 1)
        context.max_b_frames = 0
        for name, value in source.colours_as(context.pix_fmt).items():
            setattr(context, name, value)
        context.thread_type = "AUTO"
        self._rgb_format = source.rgb_format
        self._conversion = source.conversion | {
            "format": context.pix_fmt,
            "dst_color_range": source.colours["color_range"] or None,
        }

    def write(self, frame: Frame) -> None:
        """Encode one more frame."""
        pixels = np.ascontiguousarray(frame.pixels)
        made = self._av.VideoFrame.from_ndarray(pixels, format=self._rgb_format)
        made = made.reformat(**self._conversion)
        made.pts, made.time_base, made.duration = frame.pts, self._base, frame.duration
        made.pict_type = 0
        self._container.mux(self._stream.encode(made))

    def close(self) -> None:
        """Write what is left."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def choose_encoder(source: VideoReader, output: Path, wanted: str | None) -> str:
    """The encoder for a clip: the wanted codec, else the source's, else what its container takes.

    Raises ImageError for what the container cannot hold, before any work.
    """
    av, extension = require_av(str(output)), output.suffix
    if wanted and wanted not in CODECS:
        raise ImageError(f"unknown codec '{wanted}': choose one of {', '.join(CODECS)}")
    for name in (wanted,) if wanted else (source.info.codec, "h264", "vp9"):
        if name not in CODECS or (_container(extension) == "mpegts" and name not in _OF_MPEGTS):
            continue
        try:
            with av.open(_Nowhere(), "w", format=_container(extension)) as trial:
                _add_encoder(av, trial, CODECS[name], source)
                for other in source.others:
                    _taken_over(trial, other, source.path, extension)
                trial.start_encoding()
        except (OSError, ValueError, av.error.FFmpegError):
            continue
        return CODECS[name]
    what = f"clips of {wanted}" if wanted else "its clips"
    raise ImageError(f"{output}: {what} cannot be written as {extension}; use -o NAME.mkv")


def join_segments(
    segments: Sequence[Path],
    source: VideoReader,
    output: Path,
    extension: str,
    first: int | None,
    last: float,
    shown: int,
) -> None:
    """Put segments and the other streams of a source together, as clips with an extension are.

    first: what becomes the beginning of the clip, None for all of it, with the times it had.
    shown: for how long the last frame is, 0 if that is unknown.
    """
    av = require_av(str(output))
    with (
        _open(av, source.path) as origin,
        av.open(
            f"file:{output}",
            "w",
            format=_container(extension),
            container_options=_keeping(origin.metadata, extension),
        ) as target,
        _open(av, segments[0]) as opened,
    ):
        target.metadata.update(origin.metadata)
        base = source.stream.time_base
        begin = -math.inf if first is None else first * base
        end = math.inf if last == math.inf else Fraction(int(last)) * base
        streams: dict[int, Any] = {}
        for stream in origin.streams:
            if stream.index == source.stream.index:
                video = target.add_stream_from_template(
                    opened.streams.video[0],
                    **source.colours_as(opened.streams.video[0].codec_context.pix_fmt or ""),
                )
                if video.codec.canonical_name == "hevc" and _container(extension) in _QUICKTIME:
                    video.codec_context.codec_tag = "hvc1"  # Apple's players take no other
                made = video
            else:
                made = _taken_over(target, stream, source.path, extension)
            if made is None:
                continue
            made.metadata.update(
                {k: v for k, v in stream.metadata.items() if k.lower() not in _OF_THE_OLD_STREAM}
            )
            made.disposition = stream.disposition
            streams[stream.index] = made
        if _container(extension) == "avi" and source.stream.average_rate:
            video.time_base = 1 / source.stream.average_rate  # AVI has a rate and no times
        if rotation := source.info.rotation:
            video.set_display_rotation(rotation)
        target.set_chapters(_chapters_within(origin.chapters(), begin, end))
        others = [s for s in origin.streams if streams.get(s.index, video) is not video]
        copied = _copied(origin, others, begin, end) if others else iter(())
        own = _of_segments(av, segments, shown * base)
        packets = heapq.merge(own, copied, key=lambda item: item[0])
        for _, index, packet in packets:
            made = streams[source.stream.index if index is None else index]
            if first is not None:
                shift = round(begin / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = packet.dts - shift
            packet.stream = made
            target.mux(packet)


def _keeping(tags: dict[str, str], extension: str) -> dict[str, str]:
    """The options with which a container holds these tags.

    QuickTime's have a place of their own, where not all players look for the usual ones.
    """
    if _container(extension) in _QUICKTIME and any(tag.startswith("com.") for tag in tags):
        return {"movflags": "use_metadata_tags"}
    return {}


def _chapters_within(
    chapters: list[Any], begin: Fraction | float, end: Fraction | float
) -> list[Any]:
    """Those of a part of a clip, by the part's own time."""
    within = []
    for chapter in chapters:
        base = chapter["time_base"]
        start, stop = max(chapter["start"] * base, begin), min(chapter["end"] * base, end)
        # Some mark a moment, and end where they begin.
        if start < stop or (start == stop and chapter["start"] == chapter["end"]):
            shift = 0 if begin == -math.inf else begin
            times = {"start": round((start - shift) / base), "end": round((stop - shift) / base)}
            within.append(chapter | times)
    return within


def _taken_over(target: Any, stream: Any, path: Path, extension: str) -> Any:
    """A copy of a stream in another container; None for data, such as timecodes, which only
    the container that they were made for can hold.

    Raises ImageError when sound or subtitles would be lost.
    """
    same = path.suffix.lower() == extension.lower()
    attached = stream.type == "attachment" and same and _container(extension) == "matroska"
    cover = stream.type == "video" and same
    if stream.type not in ("audio", "subtitle") and not (attached or cover):
        return None
    mpegts = _container(extension) == "mpegts" and stream.type == "audio"
    try:
        if mpegts and stream.codec_context.name not in _SOUND_OF_MPEGTS:
            raise ValueError(stream.codec_context.name)
        return target.add_stream_from_template(stream)
    except (ValueError, OSError):
        if stream.type not in ("audio", "subtitle"):
            return None
        raise ImageError(
            f"{path}: {extension} files do not hold its {stream.type} "
            f"({stream.codec_context.name}); use -o NAME.mkv"
        ) from None


def _of_segments(
    av: Any, segments: Iterable[Path], shown: Fraction
) -> Iterator[tuple[Fraction, None, Any]]:
    """Each frame is shown until the next one is: segments keep times, but not for how long."""
    before = None
    for path in segments:
        with _open(av, path) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.dts is None:
                    continue
                if before is not None:
                    before.duration = packet.pts - before.pts
                    yield before.dts * before.time_base, None, before
                before = packet
    if before is not None:
        before.duration = round(shown / before.time_base) or before.duration
        yield before.dts * before.time_base, None, before


def _copied(
    origin: Any, streams: list[Any], begin: Fraction | float, end: Fraction | float
) -> Iterator[tuple[Fraction, int, Any]]:
    start = Fraction(max(begin, 0))
    if start:
        origin.seek(int(start * 1_000_000), any_frame=True, backward=True)
    for packet in origin.demux(streams):
        if packet.dts is None and packet.size and _is_cover(packet.stream):
            packet.pts = packet.dts = round(start / packet.time_base)
            yield start, packet.stream.index, packet
            continue
        if packet.dts is None:
            continue
        when = packet.dts * packet.time_base
        if when >= begin and when < end:
            yield when, packet.stream.index, packet


def _is_cover(stream: Any) -> bool:
    """Whether a stream is one picture, of what the clip is of."""
    kind = stream.disposition
    return stream.type == "video" and bool(kind & type(kind).attached_pic)


def _add_encoder(
    av: Any, container: Any, encoder: str, source: VideoReader, quality: int | None = None
) -> Any:
    """A stream for frames like those of a source."""
    stream = container.add_stream(encoder, rate=source.stream.average_rate or 25)
    context, origin = stream.codec_context, source.stream.codec_context
    context.width, context.height = origin.width, origin.height
    context.pix_fmt = _pixel_format(av, encoder, source)
    context.options = _encoder_options(encoder, quality)
    return stream


def _pixel_format(av: Any, encoder: str, source: VideoReader) -> str:
    """The source's own where the encoder takes it, else one that loses least."""
    formats = [each.name for each in av.Codec(encoder, "w").video_formats or []]
    own = source.info.pixel_format
    context = source.stream.codec_context
    even = context.width % 2 == 0 and context.height % 2 == 0
    wanted = ["yuv420p10le"] if source.deep else []
    wanted += ["yuv420p", "yuvj420p"]
    if not even:  # which halves of colour do not fit
        wanted = [name.replace("420", "444") for name in wanted]
    if even or not any(halved in own for halved in ("420", "422", "440", "411", "410")):
        wanted = [own, *wanted]
    return next((name for name in wanted if not formats or name in formats), formats[0])


def _encoder_options(encoder: str, quality: int | None) -> dict[str, str]:
    quality = _DEFAULT_QUALITY if quality is None else quality
    if encoder in _LARGEST_CRF:
        crf = str(round(_LARGEST_CRF[encoder] * (100 - quality) / 100))
        more = {
            # Slower presets take more of the cores from the restoration than they save in bytes.
            # Times come with the frames; the stream itself says the nominal rate.
            "libx264": {"preset": "veryfast", "x264-params": "force-cfr=1"},
            "libx265": {"preset": "veryfast", "x265-params": "bframes=0:log-level=none"},
            "libvpx-vp9": {"b:v": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"},
        }[encoder]
        return {"crf": crf, **more}
    return {}


def _container(extension: str) -> str:
    """FFmpeg's name of the container that a file's extension asks for."""
    names = {".mkv": "matroska", ".m4v": "mp4", ".mts": "mpegts", ".wmv": "asf", ".mpg": "mpeg"}
    return names.get(extension.lower(), extension.lower()[1:])


class _Nowhere:
    """A file that forgets what is written."""

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:100]
