"""The first word of a shutdown: SIGTERM and SIGINT, heard beside the server's own handlers.

What lives here: chaining onto the handlers that are installed, and taking it back. What does not:
stopping. A server waits for open requests before it ends the lifespan; the worker should not claim
new jobs in that time. Used by the session.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["ShutdownSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """Calls back when the process is told to end, then lets the installed handler go on.

    Where no handler is installed, or outside the main thread, nothing is changed.

    Args:
        heard: Called on the running loop.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self.told: asyncio.Event = asyncio.Event()
        """Set when the process is told to end, or the work here ends; streams end then."""
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}
        self._ours: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}

    def install(self) -> None:
        """Put ourselves in front of the present handlers."""
        if self._ours:
            return
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                self._before[number] = before
                self._ours[number] = self._handler(loop, before)
                signal.signal(number, self._ours[number])

    def remove(self) -> None:
        """Put the handlers back, unless somebody has come after us."""
        self.told.set()
        for number, before in self._before.items():
            if signal.getsignal(number) is self._ours[number]:
                signal.signal(number, before)
        self._before.clear()
        self._ours.clear()

    def _handler(
        self, loop: asyncio.AbstractEventLoop, before: Callable[[int, FrameType | None], Any]
    ) -> Callable[[int, FrameType | None], Any]:
        def handle(number: int, frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._end)
            before(number, frame)

        return handle

    def _end(self) -> None:
        self.told.set()
        self._heard()
