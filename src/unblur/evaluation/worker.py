"""A process that restores images for an evaluation: `python -m unblur.evaluation.worker SPEC`.

Reads messages of `restorers.send` on its standard input and answers on its standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unblur.evaluation.baselines import BASELINES
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.restorers import Floats, ModelSpec, receive, send
from unblur.evaluation.sets import Example
from unblur.inference import ModelError

_WARM_UP = 64  # side of an image restored before the clock runs


def main() -> None:
    spec = ModelSpec(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the evaluation ends it
    # Whatever else prints must not end up between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    try:
        restore, about = _load(spec)
    except (ModelError, EvaluationError, ImportError) as error:
        send(answers, {"error": str(error)}, [])
        return
    send(answers, about, [])
    while True:
        try:
            header, (blurred, *told) = receive(questions)
        except EOFError:
            return
        known = dict(zip(header["told"], told, strict=True))
        sharp = known.get("sharp", blurred)  # models are not told
        example = Example(blurred, sharp, known.get("kernel"), header["gamma"])
        image = blurred.astype(np.float32) / np.float32(255)
        try:
            began = time.perf_counter()
            restored = restore(image, example)
            seconds = time.perf_counter() - began
        except Exception as error:  # whatever goes wrong costs this image only
            send(answers, {"error": str(error) or type(error).__name__}, [])
            continue
        send(answers, {"seconds": seconds, "peak": _peak_bytes()}, [restored])


def _load(spec: ModelSpec) -> tuple[Callable[[Floats, Example], Floats], dict[str, Any]]:
    if spec.model in BASELINES:
        return BASELINES[spec.model].restore, {}
    from unblur.inference import Deblurrer

    deblurrer = Deblurrer(
        spec.model, spec.runtime, spec.device, threads=spec.threads, best=spec.best
    )
    deblurrer.restore_pixels(np.full((_WARM_UP, _WARM_UP, 3), 0.5, np.float32))
    about = {
        "card": asdict(deblurrer.card),
        "runtime": f"{deblurrer.runtime} on {deblurrer.device}",
    }
    return lambda image, _: deblurrer.restore_pixels(image), about


def _peak_bytes() -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says there includes the process that started this one
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmHWM:")), None)
        return None if line is None else int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
