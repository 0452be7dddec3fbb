"""What is evaluated: models in processes of their own, baselines, folders of restored images.

A process of its own makes the peak memory that is measured the model's, and what ends it, such as
a lack of memory, costs one image and not the evaluation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.layouts import images_below
from unblur.data.sources import FileSource
from unblur.evaluation.baselines import BASELINES
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.sets import Example
from unblur.files import printable, sha256_of
from unblur.imaging.photo import as_colours
from unblur.inference.models import find_model
from unblur.inference.runtimes.choice import is_checkpoint

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Restored:
    """An image H×W×3 in [0, 1], how long it took, and the peak memory so far, where measured."""

    image: Floats
    seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One column of an evaluation.

    model: a shipped model, a model file, a checkpoint, a baseline (`evaluation.BASELINES`), or,
        with `restored`, a folder of images that were restored elsewhere.
    best: as `unblur run --best` restores; for models alone.
    """

    model: str
    restored: bool = False
    runtime: str = "auto"
    device: str = "auto"
    threads: int | None = None
    name: str = ""
    best: bool = False

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{self._given_name} --best" if self.best else self._given_name

    @property
    def _given_name(self) -> str:
        if self.name:
            return self.name
        path = Path(self.model)
        if path.parent.name == "checkpoints":  # of a run: experiments/NAME/TIME/checkpoints
            return path.absolute().parents[2].name or path.stem
        if self.restored:
            return path.resolve().name
        return path.stem if path.suffix else self.model


@dataclass
class About:
    """What is known of a model: for the report, for leaks, and to tell two files apart.

    trained_on: sequences; None when that is not known.
    """

    label: str
    kind: str
    fingerprint: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    runtime: str = ""
    threads: int | None = None
    best: bool = False
    trained_on: list[str] | None = None


class Restorer:
    """Something that restores images; used as a context manager."""

    about: About
    needs_kernel = False  # whether it is told the true kernel

    def restore(self, example: Example) -> Restored:
        """Raises EvaluationError when it fails on this image."""
        raise NotImplementedError

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FolderRestorer(Restorer):
    """Images restored by something else, found by the names of the examples."""

    def __init__(self, spec: ModelSpec) -> None:
        root = Path(spec.model).expanduser()
        if not root.is_dir():
            raise EvaluationError(f"{root}: no such folder of restored images")
        self._files: dict[str, Path] = {}
        for path in images_below(root):
            name = printable(path.relative_to(root).with_suffix("").as_posix())
            if name in self._files:
                raise EvaluationError(f"{path} and {self._files[name].name}: which is it?")
            self._files[name] = path
        if not self._files:
            raise EvaluationError(f"{root}: holds no images")
        self._root = root
        stamps = [f"{n}|{p.stat().st_size}|{p.stat().st_mtime_ns}" for n, p in self._files.items()]
        self.about = About(spec.label, "restored images", _digest("\n".join(stamps).encode()))

    def restore(self, example: Example) -> Restored:
        path = self._files.get(example.name)
        if path is None:
            raise EvaluationError(f"{self._root / example.name}: no such restored image")
        pixels = as_colours(FileSource(path).photo().pixels)
        white = np.float32(np.iinfo(str(pixels.dtype)).max)
        return Restored(pixels.astype(np.float32) / white)


class FunctionRestorer(Restorer):
    """A Python function from H×W×3 floats in [0, 1] to the same."""

    def __init__(self, function: Callable[[Floats], Floats], label: str) -> None:
        self._function = function
        self.about = About(label, "function")

    def restore(self, example: Example) -> Restored:
        import time

        image = example.blurred.astype(np.float32) / np.float32(255)
        began = time.perf_counter()
        try:
            restored = np.asarray(self._function(image), np.float32)
        except Exception as error:  # whatever goes wrong costs this image only
            raise EvaluationError(str(error) or type(error).__name__) from error
        return Restored(restored, time.perf_counter() - began)


class ProcessRestorer(Restorer):
    """A model or baseline that runs in a process of its own (`evaluation.worker`)."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._sees_sharp = False
        if spec.model in BASELINES:
            self.about = About(spec.label, "baseline", spec.model)
            baseline = BASELINES[spec.model]
            self.needs_kernel, self._sees_sharp = baseline.needs_kernel, baseline.sees_sharp
        else:
            path = find_model(spec.model)
            kind = "checkpoint" if is_checkpoint(path) else "model"
            self.about = About(spec.label, kind, sha256_of(path), best=spec.best)
            if kind == "checkpoint":
                from unblur.models.checkpoint import CheckpointError, read_training

                try:
                    training = read_training(path)
                except CheckpointError as error:
                    raise EvaluationError(str(error)) from error
                self.about.trained_on = training.pop("trained_on", None)
                self.about.training = training
        self.about.threads = spec.threads
        self._start()

    def _start(self) -> None:
        # -P: no modules are taken from the folder that this was called in.
        worker = [sys.executable, "-P", "-m", "unblur.evaluation.worker"]
        command = [*worker, json.dumps(asdict(self._spec))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        header, _ = self._receive()
        self.about.card = header.get("card", {})
        if self.about.trained_on is None:
            self.about.trained_on = self.about.card.pop("trained_on", None)
        self.about.runtime = header.get("runtime", "")

    def restore(self, example: Example) -> Restored:
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdin is not None  # noqa: S101
        told: dict[str, NDArray[Any]] = {}
        if example.kernel is not None:
            told["kernel"] = example.kernel
        if self._sees_sharp:
            told["sharp"] = example.sharp
        question = {"gamma": example.gamma, "told": list(told)}
        try:
            send(process.stdin, question, [example.blurred, *told.values()])
        except BrokenPipeError:
            self._end()
            raise EvaluationError("its process ended before this image") from None
        header, (image,) = self._receive()
        return Restored(image, header["seconds"], header["peak"])

    def _receive(self) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            header, arrays = receive(process.stdout)
        except EOFError:
            self._end()
            code = process.returncode
            reason = f"signal {-code}, perhaps for a lack of memory" if code < 0 else f"code {code}"
            raise EvaluationError(f"its process ended with {reason}") from None
        if "error" in header:
            raise EvaluationError(header["error"])
        return header, arrays

    def _end(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __exit__(self, *_: object) -> None:
        self._end()


def open_restorer(spec: ModelSpec) -> Restorer:
    """Load what a spec names. Raises ModelError or EvaluationError."""
    return FolderRestorer(spec) if spec.restored else ProcessRestorer(spec)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Messages between the evaluation and a process: a line of JSON, then the bytes of arrays.


def send(file: IO[bytes], header: dict[str, Any], arrays: list[NDArray[Any]]) -> None:
    shapes = [[list(array.shape), str(array.dtype)] for array in arrays]
    file.write(json.dumps({**header, "arrays": shapes}).encode() + b"\n")
    for array in arrays:
        file.write(np.ascontiguousarray(array).data)
    file.flush()


def receive(file: IO[bytes]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Raises EOFError when the other side has gone."""
    line = file.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    arrays = []
    for shape, dtype in header.pop("arrays"):
        array = np.empty(shape, dtype)
        view, got = memoryview(array.data).cast("B"), 0
        while got < len(view):
            count = file.readinto(view[got:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            got += count
        arrays.append(array)
    return header, arrays
