"""Loops that do not die in silence.

What lives here: running a loop again when it fails, and keeping hold of small tasks. What does
not: the loops. Used by the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from embedded_tasks.clock import Clock, pause
from embedded_tasks.errors import StoreUnavailableError

__all__ = ["Supervisor"]

_log = structlog.get_logger("embedded_tasks")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Supervisor:
    """Owns loops and small tasks; nothing is left when `close` returns.

    Args:
        clock: Where the pauses come from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.failures: dict[str, str] = {}

    def loop(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop until it returns; if it fails, log that and run it again after a pause."""
        self._loops[name] = asyncio.create_task(
            self._supervise(name, run), name=f"embedded_tasks {name}"
        )

    async def ended(self, name: str) -> None:
        """Wait until a loop has returned by itself."""
        await self._loops[name]

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run something once; if it fails, log that. Nothing is begun after `close`."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(self._guard(name, work), name=f"embedded_tasks {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def insist(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run something once; while the store cannot, run it again after a pause."""
        self.spawn(name, self._insist(name, work))

    async def _insist(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        delay = _FIRST_PAUSE
        while True:
            try:
                await work()
                return
            except StoreUnavailableError as error:
                _log.error("background_work.waits", work=name, error=str(error), again_after=delay)
            await pause(self._clock, delay)
            delay = min(delay * 2, _LONGEST_PAUSE)

    async def close(self) -> None:
        """Cancel what still runs and wait for its end."""
        self._closed = True
        running = [*self._loops.values(), *self._tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        delay = _FIRST_PAUSE
        while True:
            try:
                await run()
                return
            except Exception as error:  # noqa: BLE001  # it must not die in silence
                self.failures[name] = repr(error)
                _log.exception("loop.failed", loop=name, again_after=delay)
            await pause(self._clock, delay)
            delay = min(delay * 2, _LONGEST_PAUSE)

    async def _guard(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # as above
            self.failures[name] = repr(error)
            _log.exception("background_work.failed", work=name)
