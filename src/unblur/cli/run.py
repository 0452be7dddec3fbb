"""`unblur run`: photos and folders of photos → sharp ones."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli.errors import fail

if TYPE_CHECKING:
    from unblur.inference.batch import Job, Result
    from unblur.inference.judgement import Verdict


_SECONDS_BETWEEN_LINES = 10.0
_SEEN = 0.5  # levels
_FLICKERS = 1.2  # a result that changes so much more than its clip is seen to flicker


class RuntimeChoice(enum.StrEnum):
    """Values of --runtime."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    torch = "torch"


def run(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Photos, folders and clips, mixed.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="File or folder/ to write. Default: NAME_sharp beside each input.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name from `unblur models`, or a model file.")
    ] = "small",
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Blend: 0 is the input, 1 fully restored.")
    ] = 1.0,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write a before/after picture for each photo.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Enter sub-folders.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep results that exist: resumes a batch.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write jpg, png, tif, webp, avif, bmp or heic. Default: as read, what animations "
            "stay in any case.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="For JPEG (default 95), WebP (95), AVIF and HEIC (90), clips (65).",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Of clips: h264, hevc, vp9 or ffv1. Default: as it is, else h264 or vp9."
        ),
    ] = None,
    start: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Where in a clip to begin.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How much of a clip.")
    ] = None,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Make clips steadier, where a run says they flicker.")
    ] = False,
    best: Annotated[
        bool, typer.Option("--best", help="A little better, and up to 8 times slower.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tiles of as many pixels as a square of this side: fewer need less memory."
        ),
    ] = None,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(help="What computes. auto takes the fastest installed in float32."),
    ] = RuntimeChoice.auto,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, … as listed by `unblur info`.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processor threads. Default: all cores.")
    ] = None,
    max_pixels: Annotated[
        float,
        typer.Option(
            min=0.0, max=100_000.0, metavar="MP", help="Refuse photos of more megapixels."
        ),
    ] = 170.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a machine-readable summary on stdout.")
    ] = False,
) -> None:
    """Sharpen photos, folders of photos, and clips.

    A photo goes to NAME_sharp.EXT beside it, a folder to FOLDER_sharp/ with its sub-folders
    mirrored; -o names another place. Format, bit depth, transparency, colour profile and metadata
    are kept. A file that cannot be read is reported and the rest go on. A clip keeps its frame
    rate, sound and subtitles; a run that was interrupted goes on when it is called again. Clips
    are restored when they are named, not as part of a folder.

    Exit code: 0 all restored, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    # Damaged or very large photos make Pillow warn; what matters is said per file below.
    warnings.filterwarnings("ignore", module="PIL")
    from unblur.imaging import ImageError, allow_large_photos, parse_format, register_heif
    from unblur.imaging.video import is_video
    from unblur.inference import ModelError
    from unblur.inference.batch import Options, UsageError, plan_jobs, run_jobs, share_out
    from unblur.inference.deblurrer import Deblurrer
    from unblur.inference.models import find_model
    from unblur.inference.runtimes.choice import choose
    from unblur.inference.video import VideoOptions

    most = int(max_pixels * 1e6)
    try:
        if overwrite and skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other")
        options = Options(
            strength,
            compare,
            overwrite,
            skip_existing,
            parse_format(format_) if format_ else None,
            quality,
            most,
            VideoOptions(codec=codec, start=start, duration=duration, temporal=temporal),
        )
        if options.format and options.format.name == "HEIF":
            register_heif("--format heic")
        plan = plan_jobs(inputs, output, recursive, options.format)
        clips = [job.source for job in plan.jobs if is_video(job.source)]
        for name, given, needs_clips in (
            ("--format", format_ is not None, False),
            ("--compare", compare, False),
            ("--codec", codec is not None, True),
            ("--start", start is not None, True),
            ("--duration", duration is not None, True),
            ("--temporal", temporal, True),
        ):
            if given and bool(clips) != needs_clips:
                raise UsageError(f"{name} is for {'clips' if needs_clips else 'photos'}")
        allow_large_photos(options.max_pixels)
        chosen = choose(find_model(model), runtime.value)
        workers, threads = share_out([job.source for job in plan.jobs], chosen, threads)
        deblurrer = Deblurrer(model, chosen, device, tile, threads, best)
    except (UsageError, ImageError, ModelError) as error:
        if as_json:
            typer.echo(json.dumps({"error": str(error), "files": []}, indent=2))
        raise fail(str(error), 2) from None
    if plan.ignored:
        shown = ", ".join(path.name for path in plan.ignored[:3])
        more = ", …" if len(plan.ignored) > 3 else ""
        why = "no photos, or results of earlier runs"
        typer.echo(f"left alone ({why}): {len(plan.ignored)} ({shown}{more})", err=True)
    for problem in plan.unreadable:
        fail(problem)
    jobs = plan.jobs
    if not jobs:
        fail("no photos found")
    results: list[Result] = []
    interrupted = False
    began = time.monotonic()
    try:
        with (
            _Progress(jobs) as display,
            # Closed when interrupted, so that files in work are given up.
            closing(run_jobs(jobs, deblurrer, options, display.advance, workers)) as outcomes,
        ):
            for result in outcomes:
                results.append(result)
                display.finished(result)
    except KeyboardInterrupt:
        interrupted = True
    failed = sum(result.status == "failed" for result in results)
    if as_json:
        typer.echo(json.dumps(_summary(deblurrer, results, interrupted), indent=2))
    if jobs:
        _print_totals(results, interrupted, len(jobs), time.monotonic() - began)
    if interrupted:
        raise typer.Exit(130)
    if failed or plan.unreadable or not jobs:
        raise typer.Exit(1)


def _summary(deblurrer: Any, results: list[Result], interrupted: bool) -> dict[str, Any]:
    from unblur import __version__

    return {
        "unblur": __version__,
        "model": deblurrer.card.name,
        "runtime": deblurrer.runtime,
        "device": deblurrer.device,
        "interrupted": interrupted,
        "files": [
            dataclasses.asdict(result) | {"megapixels": round(result.megapixels, 4)}
            for result in results
        ],
    }


def _print_totals(results: list[Result], interrupted: bool, planned: int, seconds: float) -> None:
    done = [result for result in results if result.status == "ok"]
    skipped = sum(result.status == "skipped" for result in results)
    failed = sum(result.status == "failed" for result in results)
    parts = [f"{len(done)} restored"]
    if skipped:
        parts.append(f"{skipped} skipped")
    if failed:
        parts.append(f"{failed} failed")
    if interrupted:
        parts.append(f"{planned - len(results)} not reached; --skip-existing resumes")
    megapixels = sum(result.megapixels for result in done)
    if done:
        parts.append(f"{megapixels:.1f} MP in {seconds:.1f} s")
    typer.echo(", ".join(parts), err=True)


class _Progress:
    """A bar with MP/s and time left on a terminal, a line per file elsewhere; all on stderr."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._bar: Any = None
        self._current: Path | None = None
        self._finished_pixels = 0.0
        self._sizes: dict[Path, float] = {}
        self._shares: dict[Path, float] = {}  # of the files in work
        self._begun: dict[Path, tuple[float, float]] = {}
        self._said = time.monotonic()

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            for job in self._jobs:
                self._sizes[job.source] = _megapixels(job.source)
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.1f}/{task.total:.1f} MP  {task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            total = sum(self._sizes.values())
            self._task = self._bar.add_task("", total=total or 1, rate="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, job: Job, share: float) -> None:
        """One more tile of a photo, or frame of a clip, is done."""
        from unblur.imaging.video import is_video

        now = time.monotonic()
        if job.source not in self._begun:
            self._begun[job.source] = now, share
        began, done_before = self._begun[job.source]
        if not self._bar and is_video(job.source) and now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            left = (now - began) * (1 - share) / max(share - done_before, 1e-6)
            self._line(f"{job.source}: {share:.1%}, {_duration(left)} left")
        if self._bar:
            self._shares[job.source] = share
            completed = self._finished_pixels + sum(
                self._sizes[source] * each for source, each in list(self._shares.items())
            )
            speed = self._bar.tasks[0].speed
            self._bar.update(
                self._task,
                completed=completed,
                description=job.source.name,
                rate=f"{speed:.2f} MP/s" if speed else "",
            )

    def finished(self, result: Result) -> None:
        """One file has its result."""
        if self._bar:
            self._shares.pop(Path(result.input), None)
            self._finished_pixels += self._sizes[Path(result.input)]
            self._bar.update(self._task, completed=self._finished_pixels)
        if result.status == "failed":
            self._line(f"failed: {result.error}")
        else:
            note = "kept" if result.status == "skipped" else f"{result.seconds:.1f} s"
            if result.verdict is not None:
                note += (
                    f", {_describe_change(result.verdict, result.blur or 0, result.change or 0)}"
                )
            self._line(f"{result.input} → {result.output} ({note})")
        if result.flicker is not None:
            self._line(_describe_flicker(*result.flicker))
        if result.missing:
            self._line(
                f"{result.input}: is damaged or cut off, about {result.missing} frames are missing"
            )
        for note in result.notes:
            self._line(f"{result.input}: {note}")

    def _line(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(text, err=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _describe_change(verdict: Verdict, blur: float, change: float) -> str:
    from unblur.inference.judgement import Verdict

    percent = change / 2.55
    changed = f"changed by {percent:.1f} %"
    return {
        Verdict.SHARPER: f"made sharper by about {blur:.1f} pixels of blur, {changed}",
        Verdict.NO_SHARPER: f"no sharper, {changed}",
        Verdict.HARDLY_CHANGED: f"hardly changed, by {percent:.2f} %: sharp already, or "
        "blurred beyond what this model can undo",
        Verdict.UNTOUCHED: "as it was: strength 0",
    }[verdict]


def _describe_flicker(before: float, after: float) -> str:
    ratio = after / before if before else 1.0
    flickers = ratio > _FLICKERS and after > _SEEN
    advice = "; --temporal makes it steadier" if flickers else ""
    return f"flicker: {after:.2f}, {before:.2f} in the clip itself (× {ratio:.2f}){advice}"


def _megapixels(path: Path) -> float:
    """Of a photo, or of all frames of a clip; 0 when it cannot be told."""
    from unblur.imaging import ImageError, probe_size
    from unblur.imaging.video import VideoReader, is_video

    if not is_video(path):
        width, height = probe_size(path)
        return width * height / 1e6
    try:
        with VideoReader(path, 2**40) as reader:
            return reader.info.frames * reader.info.width * reader.info.height / 1e6
    except ImageError:
        return 0.0
