"""Refusing new jobs while too many wait: `max_queued`.

What lives here: how many jobs wait as far as this process knows, and how fast they leave. What does
not: the counting itself (`store`), and what a client is answered (`fastapi/edge.py`). Asked by the
front door before it stores jobs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from embedded_tasks.clock import Clock
from embedded_tasks.errors import QueueFullError
from embedded_tasks.settings import ALL_QUEUES
from embedded_tasks.store import Store

__all__ = ["Backpressure", "Siblings", "room_for"]

_log = structlog.get_logger("embedded_tasks")

_OLDEST = 1.0
_OLDEST_WHEN_CLOSE = 0.1
_YOUNGEST = 0.02
_SHARE = 20
_WINDOW = 1.0
_LONGEST_WINDOW = 10.0
_LONGEST_ANSWER = 300
_NOT_MEASURED = 5
_NOTHING_LEAVES = 60
_TOLD_EVERY = 10.0
_SHOWN_FOR = 60.0

_T = TypeVar("_T")


class Siblings(Protocol):
    """The other processes on the file."""

    @property
    def ids(self) -> Collection[str]:
        """Their ids."""
        ...


def room_for(
    limits: Mapping[str, int], store: Store, clock: Clock, siblings: Siblings
) -> Backpressure | None:
    """Return what keeps these limits, or None where there are none: then nothing is counted."""
    return Backpressure(limits, store, clock, siblings) if limits else None


@dataclass(slots=True)
class _Line:
    """The jobs that one limit is about.

    Args:
        queue: The queue's name, or `ALL_QUEUES`.
        limit: How many may wait.
        counted: How many waited at the last count.
        taken: How many places were ever taken in this process.
        written: How many of these are jobs on disk.
        before: How many were, when the last count began.
    """

    queue: str
    limit: int
    counted: int = 0
    taken: int = 0
    written: int = 0
    before: int = 0
    rate: float | None = None
    _since: float = -math.inf
    _waited: int = 0
    _written: int = 0

    def wanted(self, queues: Sequence[str]) -> int:
        """Return how many of these jobs this limit is about."""
        return len(queues) if self.queue == ALL_QUEUES else queues.count(self.queue)

    @property
    def waiting(self) -> int:
        """How many wait at the most, as far as this process knows; siblings add without us."""
        return self.counted + self.taken - self.before

    def has_counted(self, waiting: int, before: int, now: float) -> None:
        """Take a new count, and measure from time to time how fast jobs leave."""
        self.counted, self.before = waiting, before
        elapsed = now - self._since
        if elapsed < _WINDOW:
            return
        if elapsed <= _LONGEST_WINDOW:
            left = max(self._waited + before - self._written - waiting, 0) / elapsed
            self.rate = left if self.rate is None else (self.rate + left) / 2
        self._since, self._waited, self._written = now, waiting, before

    def full(self, wanted: int) -> QueueFullError:
        """Return the error for jobs that have no place here."""
        # Not for one place only: all who are refused now come back together.
        places = max(self.waiting + wanted - self.limit, self.limit // 10, 1)
        if self.rate is None:
            seconds = _NOT_MEASURED
        elif self.rate == 0:
            seconds = _NOTHING_LEAVES
        else:
            seconds = min(math.ceil(places / self.rate), _LONGEST_ANSWER)
        queue = None if self.queue == ALL_QUEUES else self.queue
        # Counted no further than that, and some of them perhaps twice.
        return QueueFullError(queue, min(self.waiting, self.limit), self.limit, seconds)


class Backpressure:
    """Knows how many jobs wait without counting them each time.

    Jobs are counted at most once a second, ten times a second when it is getting close, and less
    often where counting takes long. In between, what this process adds is added up, and what leaves
    is not seen. So this process never stores more than the limit; with siblings it can become more
    by what they store between two counts.

    Args:
        limits: How many jobs may wait in each queue, and under `ALL_QUEUES` in all of them.
        store: Where they are counted.
        clock: Where the time comes from.
        siblings: The other processes on the file.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        store: Store,
        clock: Clock,
        siblings: Siblings,
    ) -> None:
        self._lines = [_Line(queue, limit) for queue, limit in limits.items()]
        self._store = store
        self._clock = clock
        self._siblings = siblings
        self._counted_at = -math.inf
        self._took = 0.0
        self._indexed = False
        self._counting: asyncio.Task[None] | None = None
        self._refused = 0
        self._told_at = -math.inf
        self._last: tuple[float, QueueFullError] | None = None

    async def store(self, queues: Sequence[str], write: Callable[[], Awaitable[_T]]) -> _T:
        """Write jobs, of which each waits in one of these queues.

        Raises:
            QueueFullError: There is no place for all of them; nothing was written.
        """
        places = await self._take(queues)
        try:
            result = await write()
        except BaseException:
            for line, number in places:
                line.taken -= number
            raise
        for line, number in places:
            line.written += number
        return result

    def problem(self) -> str | None:
        """Return what is to be said of refusals in the last minute."""
        if self._last is None or self._clock.monotonic() - self._last[0] > _SHOWN_FOR:
            return None
        return f"Jobs were refused in the last minute. {self._last[1]}"

    async def _take(self, queues: Sequence[str]) -> list[tuple[_Line, int]]:
        places = [(line, number) for line in self._lines if (number := line.wanted(queues))]
        if places and self._age() > self._oldest(places):
            await self._count()
        full = _without_place(places)
        if full and self._age() > max(_YOUNGEST, self._took * _SHARE):
            await self._count()
            full = _without_place(places)
        for line, number in full:
            self._refuse(line.full(number), number)
        for line, number in places:
            line.taken += number
        return places

    def _age(self) -> float:
        return self._clock.monotonic() - self._counted_at

    def _oldest(self, places: Sequence[tuple[_Line, int]]) -> float:
        """How old a count may be: all processes together cannot go far wrong in that time."""
        share = 2 * (len(self._siblings.ids) + 1)
        far = all((line.waiting + number) * share <= line.limit for line, number in places)
        return max(_OLDEST if far else _OLDEST_WHEN_CLOSE, self._took * _SHARE)

    async def _count(self) -> None:
        """Count once for all who ask meanwhile; whoever goes away does not end it."""
        if self._counting is None:
            self._counting = asyncio.create_task(self._count_all(), name="embedded_tasks count")
            self._counting.add_done_callback(self._count_ended)
        await asyncio.shield(self._counting)

    def _count_ended(self, task: asyncio.Task[None]) -> None:
        self._counting = None
        if not task.cancelled():
            # It was told to those who asked; if they are all gone, to nobody.
            task.exception()

    async def _count_all(self) -> None:
        # What was written by now is in the count; what is on its way is added to it.
        before = [line.written for line in self._lines]
        if not self._indexed and any(line.queue != ALL_QUEUES for line in self._lines):
            await self._store.index_waiting()
            self._indexed = True
        begun = self._clock.monotonic()
        counts = [
            await self._store.read.waiting(
                line.limit + 1, None if line.queue == ALL_QUEUES else line.queue
            )
            for line in self._lines
        ]
        self._counted_at = self._clock.monotonic()
        self._took = self._counted_at - begun
        for line, waiting, written in zip(self._lines, counts, before, strict=True):
            line.has_counted(waiting, written, self._counted_at)

    def _refuse(self, error: QueueFullError, number: int) -> None:
        now = self._clock.monotonic()
        self._refused += number
        self._last = now, error
        if now - self._told_at >= _TOLD_EVERY:
            self._told_at = now
            _log.warning("jobs.refused", jobs=self._refused, reason=str(error))
            self._refused = 0
        raise error


def _without_place(places: Sequence[tuple[_Line, int]]) -> list[tuple[_Line, int]]:
    return [(line, number) for line, number in places if line.waiting + number > line.limit]
