"""Interlaced video: frames that hold two fields, each every second line, of two moments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

_LEAST_SIDE = 4  # the filter takes no smaller frames

Timed = tuple[int, Any]  # when a frame is shown, and the frame


class WholeFrames:
    """Makes all lines of a frame be of its first field's moment, by FFmpeg's bwdif.

    A network would make the combs sharp that two moments are where something moves. Other frames
    pass as they are. found: whether there was one of two fields so far.
    """

    def __init__(self, av: Any, time_base: Fraction) -> None:
        self._av, self._base = av, time_base
        self.found = False
        self._graph: Any = None
        self._kind: tuple[int, int, str] | None = None
        self._told: deque[tuple[int, int]] = deque()  # times and durations of what is in the graph

    def of(self, decoded: Iterator[Timed]) -> Iterator[Timed]:
        """As many frames as there are, at their times."""
        before: Timed | None = None
        self._graph = None  # of an earlier passage that was not followed to its end
        self._told.clear()
        for pts, frame in decoded:
            if self._graph is not None and _kind(frame) != self._kind:
                yield from self._given(None, None)
                self._graph = before = None
            if self._graph is not None:
                yield from self._given(pts, frame)
            elif not frame.interlaced_frame or min(frame.width, frame.height) < _LEAST_SIDE:
                yield pts, frame
                before = pts, frame
            else:
                self._begin(frame)
                given = self._given(pts, frame)
                if before is not None and _kind(before[1]) == self._kind:
                    # The filter looks back; what it makes of the frame before is not wanted again.
                    known = before[0]
                    given = (each for each in chain(self._given(*before), given) if each[0] > known)
                yield from given
        if self._graph is not None:
            yield from self._given(None, None)

    def _begin(self, frame: Any) -> None:
        self.found, self._kind = True, _kind(frame)
        self._graph = self._av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._base
        )
        whole = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, whole, self._graph.add("buffersink")).configure()

    def _given(self, pts: int | None, frame: Any) -> Iterator[Timed]:
        """What the filter gives for one more frame, or at the end; it waits for the one behind."""
        if pts is not None:
            self._told.append((pts, int(frame.duration or 0)))
            frame.pts, frame.time_base = pts, self._base
        self._graph.push(frame)
        while True:
            try:
                whole = self._graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            time, whole.duration = self._told.popleft()
            yield time, whole


def _kind(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
