"""Jobs of this process that have not started go to everybody.

What lives here: writing that, again until the store takes it. What does not: which jobs, and why.
Used by the worker and the chains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from embedded_tasks.clock import Clock, pause
from embedded_tasks.store import Store

__all__ = ["Releases"]

_log = structlog.get_logger("embedded_tasks")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Releases:
    """Gives jobs away; what comes while one batch is written goes into the next.

    Args:
        store: Where they are.
        owner: This process.
        clock: Where the time comes from.
        cancelled: Told the ids of those that somebody wanted to stop: they end instead.
        released: Called when jobs wait for whoever is free.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        clock: Clock,
        *,
        cancelled: Callable[[list[str]], None],
        released: Callable[[], None],
    ) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock
        self._cancelled = cancelled
        self._released = released
        self._waiting: list[str] = []
        self._writing: asyncio.Task[None] | None = None
        self._closing = False

    def add(self, ids: Iterable[str]) -> None:
        """Give jobs away as soon as the store takes it."""
        self._waiting += ids
        if self._waiting and self._writing is None:
            self._writing = asyncio.create_task(self._write())

    def close(self) -> None:
        """Try no more than once from now on: what stays ours is released by who recovers us."""
        self._closing = True

    async def written(self) -> None:
        """Return when nothing is left to write."""
        while self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        delay = _FIRST_PAUSE
        try:
            while self._waiting:
                ids, self._waiting = self._waiting, []
                try:
                    cancelled = await self._store.release(ids, self._owner, self._clock.now())
                except Exception as error:  # noqa: BLE001  # whatever it is, they must not stay ours
                    _log.error("jobs.not_released", jobs=len(ids), error=str(error) or repr(error))
                    if self._closing:
                        break
                    self._waiting += ids
                    await pause(self._clock, delay)
                    delay = min(delay * 2, _LONGEST_PAUSE)
                else:
                    self._tell(cancelled)
        finally:
            self._writing = None

    def _tell(self, cancelled: list[str]) -> None:
        try:
            self._cancelled(cancelled)
            self._released()
        except Exception as error:  # noqa: BLE001  # they are given away, and others come next
            _log.error("jobs.not_told", jobs=len(cancelled), error=repr(error))
