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
from embedded_tasks.guarding import Failures, GuardedClock, GuardedLoop

__all__ = ["Supervisor"]

_log = structlog.get_logger("embedded_tasks")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_PROVEN = 60.0


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
        self._failures = Failures(clock)
        self.clock: Clock = GuardedClock(clock, self._failures)

    @property
    def failures(self) -> dict[str, str]:
        """What fails now, by name, with the last error."""
        return self._failures.now

    @property
    def past(self) -> list[str]:
        """What has failed and is over, in words."""
        return self._failures.past

    def watching(self, loop: asyncio.AbstractEventLoop) -> GuardedLoop:
        """Return a loop whose readers are told of when they fail, and are called again."""
        return GuardedLoop(loop, self._clock, self._failures)

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

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            # If it was cancelled before it began, nobody has awaited this.
            work.close()

        task.add_done_callback(ended)

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
            begun = self._clock.monotonic()
            try:
                await run()
                return
            except Exception as error:  # noqa: BLE001  # it must not die in silence
                if self._clock.monotonic() - begun > _PROVEN:
                    delay = _FIRST_PAUSE
                self._failures.failed(f"The loop {name}", error, again=True)
                _log.exception("loop.failed", loop=name, again_after=delay)
            await pause(self._clock, delay)
            self._failures.runs_again(f"The loop {name}")
            delay = min(delay * 2, _LONGEST_PAUSE)

    async def _guard(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # as above
            self._failures.failed(name, error)
            _log.exception("background_work.failed", work=name)
        else:
            self._failures.worked(name)
