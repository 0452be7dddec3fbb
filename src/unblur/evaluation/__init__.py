"""Measuring restoration: protocols, metrics, baselines, reports.

>>> from unblur.evaluation import ModelSpec, SetSpec, evaluate, open_set
>>> results = evaluate([ModelSpec("small")], [open_set(SetSpec("gopro:GOPRO_Large"))])
... # doctest: +SKIP
"""

from unblur.evaluation.baselines import BASELINES
from unblur.evaluation.benchmark import (
    BENCHMARK_FILE,
    Benchmark,
    benchmark,
    export_untrained,
    in_runtimes,
    write_benchmark,
)
from unblur.evaluation.errors import EvaluationError
from unblur.evaluation.evaluate import Evaluation, Result, evaluate
from unblur.evaluation.protocol import PROTOCOL_HELP, Protocol, parse_protocol
from unblur.evaluation.restorers import FunctionRestorer, ModelSpec, Restorer
from unblur.evaluation.sets import SetSpec, TestSet, open_set, read_suite
from unblur.metrics import DEFAULT_METRICS, METRICS

__all__ = [
    "BASELINES",
    "BENCHMARK_FILE",
    "DEFAULT_METRICS",
    "METRICS",
    "PROTOCOL_HELP",
    "Benchmark",
    "Evaluation",
    "EvaluationError",
    "FunctionRestorer",
    "ModelSpec",
    "Protocol",
    "Restorer",
    "Result",
    "SetSpec",
    "TestSet",
    "benchmark",
    "evaluate",
    "export_untrained",
    "in_runtimes",
    "open_set",
    "parse_protocol",
    "read_suite",
    "write_benchmark",
]
