"""Retention: finished jobs are removed when their time of keeping is over, in small batches.

What lives here: one loop that sleeps until there is something to remove. What does not: how long
jobs are kept (`config.Retention`). Owned by the runner.
"""

from __future__ import annotations

import asyncio

import structlog

from embedded_tasks.clock import Clock, Timer, pause
from embedded_tasks.errors import StoreError
from embedded_tasks.store import Store

__all__ = ["Pruner"]

_log = structlog.get_logger("embedded_tasks")

_SHORTEST_SLEEP = 1.0
_LONGEST_SLEEP = 3600.0
_REST = 19
"""For each second that removing takes, so many without it."""
_LONGEST_REST = 0.05
"""On a slow disk, too, it keeps up with some thousand jobs a second."""


class Pruner:
    """Removes finished jobs.

    Args:
        store: Where they are.
        clock: Where the time comes from.
        shortest: The shortest time that any job is kept, in seconds.
    """

    def __init__(self, store: Store, clock: Clock, shortest: float) -> None:
        self._store = store
        self._clock = clock
        self._shortest = max(shortest, _SHORTEST_SLEEP)
        self._wake = asyncio.Event()
        self._timer: Timer | None = None
        self._wake.set()

    def noticed(self) -> None:
        """Jobs have finished: there will be something to remove."""
        if self._timer is None and not self._wake.is_set():
            self._sleep(self._shortest)

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def run(self) -> None:
        """Remove what is to be removed, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.close()
            try:
                await self._prune()
            except StoreError as error:
                _log.error("pruner.failed", error=str(error))
                self._sleep(60.0)

    async def _prune(self) -> None:
        began = self._clock.monotonic()
        while await self._store.prune(self._clock.now()):
            # Writers come in between two batches, and have nearly all of the time.
            rest = min(_REST * (self._clock.monotonic() - began), _LONGEST_REST)
            await (pause(self._clock, rest) if rest else asyncio.sleep(0))
            began = self._clock.monotonic()
        when = await self._store.read.next_prune()
        if when is not None:
            self._sleep(max(when - self._clock.now(), self._shortest / 10))

    def _sleep(self, delay: float) -> None:
        self.close()
        delay = min(max(delay, _SHORTEST_SLEEP), _LONGEST_SLEEP)
        self._timer = self._clock.call_later(delay, self._wake.set)
