"""Connections on which nothing is asked, which would keep others out."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def _in_the_kernel(transport: asyncio.Transport) -> int:
    """Bytes that were sent and not taken yet; 0 where the system does not say."""
    try:
        import fcntl
        import termios

        told = fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(told, sys.byteorder)
    except (ImportError, AttributeError, OSError, TypeError, ValueError):
        return 0


def impatient(seconds: float) -> type[H11Protocol]:
    """A protocol for uvicorn that closes connections without a request for so many seconds, and
    drops those that do not take a byte of their answer meanwhile.

    What waits in the kernel counts, too: it holds megabytes, which a slow client takes minutes for.

    uvicorn itself waits for ever for the first request of a connection, for its headers, and for
    answers to be taken.
    """

    class ImpatientProtocol(H11Protocol):
        _last: Any = None
        _untaken = 0
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            # The cycle is the request in work, or the last one.
            idle = self.cycle is None or self.cycle.response_complete
            untaken = self.transport.get_write_buffer_size() + _in_the_kernel(self.transport)
            if untaken and untaken == self._untaken:
                self.transport.abort()  # closing would wait for the rest to be taken
                return
            if idle and self.cycle is self._last and not untaken:
                self.transport.close()
                return
            self._last, self._untaken = self.cycle, untaken
            self._timer = self.loop.call_later(seconds, self._look)

    return ImpatientProtocol
