"""How much a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused, and when.

    max_bytes: of an upload. max_pixels: of a photo. body_seconds: for an upload to arrive;
    idle_seconds: without a byte of it. seconds: of work on one photo. waiting: photos that wait
    for their turn. workers: photos in work at a time. kept_seconds, kept_jobs, kept_bytes: how
    long, and how much at most, finished jobs wait to be fetched.
    """

    max_bytes: int = 64_000_000
    max_pixels: int = 50_000_000
    body_seconds: float = 120.0
    idle_seconds: float = 15.0
    seconds: float = 300.0
    waiting: int = 16
    workers: int = 2
    kept_seconds: float = 600.0
    kept_jobs: int = 100
    kept_bytes: int = 1_000_000_000
