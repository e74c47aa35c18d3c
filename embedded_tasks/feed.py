"""What happens, told to whoever listens; nobody reads the store while nobody does.

What lives here: one reader for all listeners of a process. What does not: what is read (`News`).
Owned by the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence, Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

import structlog

from embedded_tasks.changes import Changes
from embedded_tasks.clock import Clock, Timer
from embedded_tasks.errors import StoreError
from embedded_tasks.reported import EventKey, FeedEvent, FeedKind
from embedded_tasks.store import News, Place

__all__ = ["Feed", "Listener"]

_log = structlog.get_logger("embedded_tasks")

_LOOK_EVERY: Final = 1.0
_SOONEST: Final = 0.2
_MOST_WAITING: Final = 1_000
_LONGEST_AWAY: Final = 86_400.0
# The look that is under way may have read too early; the next one has read all.
_FOUND_TWICE: Final = 2

_Batch = Sequence[FeedEvent]


class Listener:
    """Somebody who listens: what is told at one time comes as one batch, the same for all.

    Args:
        job_id: The only job that it is about; None for all.
        reset: Returns the event that tells that something was missed.
        leave: Called when it listens no more.
    """

    def __init__(
        self,
        job_id: str | None,
        reset: Callable[[], FeedEvent],
        leave: Callable[[Listener], None],
    ) -> None:
        self.job_id: str | None = job_id
        self._reset = reset
        self._leave = leave
        self._batches: list[_Batch] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._missed = False
        self._ended = False
        self._known: AbstractSet[EventKey] = frozenset()
        self._known_until = 0

    async def next(self) -> _Batch | None:
        """Return what was told since the last call, or None when no more will be."""
        while not self._batches and not self._missed:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._ended:
            return None
        batches, self._batches, self._waiting = self._batches, [], 0
        missed, self._missed = self._missed, False
        if missed:
            batches.insert(0, [self._reset()])
        return batches[0] if len(batches) == 1 else [each for batch in batches for each in batch]

    def put(self, batch: _Batch, look: int = 0) -> None:
        """Tell it; what it does not take in time it misses.

        Args:
            batch: What happened.
            look: The number of the look that has found it.
        """
        if self._known and look <= self._known_until:
            # Read when it caught up, and once more by the reader.
            batch = [event for event in batch if event.key not in self._known]
        if not batch:
            return
        if self._waiting and self._waiting + len(batch) > _MOST_WAITING:
            self.miss()
        self._batches.append(batch)
        self._waiting += len(batch)
        self._wake.set()

    def miss(self) -> None:
        """Tell, in place of what was not read yet, that something was missed."""
        self._missed = True
        self._batches.clear()
        self._waiting = 0
        self._wake.set()

    def catch_up(self, events: _Batch, look: int) -> None:
        """Tell what happened before it listened; what comes twice then is left out.

        Args:
            events: What was read, after it had begun to listen.
            look: The number of the last look by which the same can be found once more.
        """
        live, self._batches, self._waiting = self._batches, [], 0
        if self.job_id is not None:
            events = [event for event in events if event.job_id == self.job_id]
        self.put(events)
        self._known, self._known_until = {event.key for event in events}, look
        for batch in live:
            self.put(batch)

    def end(self) -> None:
        """Tell no more."""
        self._ended = True
        self._wake.set()

    def close(self) -> None:
        """Listen no more."""
        self._leave(self)


class Feed:
    """Reads on while somebody listens.

    Args:
        news: Where it is read.
        clock: Where the time comes from.
    """

    def __init__(self, news: News, clock: Clock) -> None:
        self._news = news
        self._clock = clock
        self.changes: Changes = Changes(news, clock)
        self._listeners: dict[str | None, set[Listener]] = {}
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._closed = False
        self._place = Place(0, 0, 0.0)
        self._version = -1
        self._told: AbstractSet[str] = frozenset()
        self._running: dict[EventKey, tuple[Any, int]] = {}
        self._timer: Timer | None = None
        self._looks = 0
        self._reading = asyncio.Lock()
        self._readings: dict[str, asyncio.Task[_Batch | None]] = {}

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(map(len, self._listeners.values()))

    def poke(self) -> None:
        """Something was written here: look soon, if anybody listens."""
        self.changes.poke()
        if self._task is not None and self._timer is None:
            self._timer = self._clock.call_later(_SOONEST, self._look_now)

    def end(self) -> None:
        """End every stream; the process is about to stop."""
        self._closed = True
        self.changes.end()
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End every stream and wait for the reader."""
        self.end()
        await self.changes.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def listen(self, after: str | None, job_id: str | None) -> AsyncIterator[FeedEvent]:
        """Yield what happens, from behind a place on if one is given, until the process stops."""
        # First it listens, then it catches up: nothing that happens meanwhile falls in between.
        listener = await self.join(job_id)
        try:
            if after is not None and not self._closed:
                events = await self.missed(after)
                if events is None:
                    listener.miss()
                else:
                    listener.catch_up(events, self._looks + _FOUND_TWICE)
            while (batch := await listener.next()) is not None:
                for event in batch:
                    yield event
        finally:
            listener.close()

    async def join(self, job_id: str | None = None) -> Listener:
        """Return a listener, which is told all that happens from now on."""
        listener = Listener(job_id, self._reset, self._leave)
        if self._closed:
            listener.end()
            return listener
        await self._start()
        self._listeners.setdefault(job_id, set()).add(listener)
        return listener

    async def missed(self, after: str) -> _Batch | None:
        """Return what has happened since a place; None where that cannot be told.

        All who ask before it is read share one reading.
        """
        reading = self._readings.get(after)
        if reading is None:
            reading = asyncio.create_task(self._read_missed(after), name="embedded_tasks missed")
            # Whoever asked may be gone when it fails.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._readings[after] = reading
        return await asyncio.shield(reading)

    async def _read_missed(self, after: str) -> _Batch | None:
        async with self._reading:
            # Who asks from now on is too late for this one.
            del self._readings[after]
            now = self._clock.now()
            place, here = Place.of(after), await self._news.now(now)
            if place is None or place.seq > here.seq or now - place.time > _LONGEST_AWAY:
                return None
            found = await self._news.since(place, now)
            return None if found.more else found.events

    async def _start(self) -> None:
        async with self._starting:
            if self._task is None and not self._closed:
                await self._begin_at_now(self._clock.now())
                running = await self._news.running(self._clock.now())
                self._running = {event.key: (told, line) for event, told, line in running}
                self._task = asyncio.create_task(self._run(), name="embedded_tasks feed")

    async def _begin_at_now(self, now: float) -> None:
        """What is so already is no news."""
        self._version = -1
        self._place = await self._news.now(now)
        self._told = await self._news.told(self._place)

    def _leave(self, listener: Listener) -> None:
        alike = self._listeners.get(listener.job_id, set())
        alike.discard(listener)
        if not alike:
            self._listeners.pop(listener.job_id, None)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    def _look_now(self) -> None:
        self._timer = None
        self._wake.set()

    async def _run(self) -> None:
        while True:
            # Before it is read: what is written while it is read is looked at once more.
            self._wake.clear()
            try:
                await self._look()
            except StoreError as error:
                _log.warning("feed.failed", error=str(error))
            timer = self._clock.call_later(_LOOK_EVERY, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _look(self) -> None:
        version = await self._news.version()
        if version == self._version:
            return
        now = self._clock.now()
        found = await self._news.since(self._place, now, self._told)
        if found.more:
            # More than anybody can follow: everybody reads anew.
            await self._begin_at_now(now)
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.miss()
        elif found.events:
            self._place = Place.of(found.events[-1].id) or self._place
        self._version, self._told = version, found.told
        self._looks += 1
        running = await self._news.running(now)
        self._tell([*found.events, *self._news_of_running(running, now)])

    def _news_of_running(
        self, found: Sequence[tuple[FeedEvent, tuple[Any, ...] | None, int]], now: float
    ) -> list[FeedEvent]:
        events: list[FeedEvent] = []
        running: dict[EventKey, tuple[Any, int]] = {}
        here = str(self._place)
        for event, progress, line in found:
            key = event.key
            running[key] = (progress, line)
            told, told_line = self._running.get(key, (None, 0))
            if key not in self._running:
                events.append(replace(event, id=here))
            if progress is not None and progress != told:
                done, total, message, at = progress
                details = {"done": done, "total": total, "message": message}
                kind = FeedKind.PROGRESS
                events.append(replace(event, id=here, kind=kind, at=at, details=details))
            if line > told_line:
                events.append(replace(event, id=here, kind=FeedKind.LOG, at=now))
        self._running = running
        return events

    def _tell(self, events: _Batch) -> None:
        """Tell everybody the same batch, and those who follow one job what is about it."""
        if not events:
            return
        for listener in self._listeners.get(None, ()):
            listener.put(events, self._looks)
        if len(self._listeners) > (None in self._listeners):
            of_jobs: dict[str, list[FeedEvent]] = {}
            for event in events:
                if event.job_id in self._listeners and event.job_id is not None:
                    of_jobs.setdefault(event.job_id, []).append(event)
            for job_id, batch in of_jobs.items():
                for listener in self._listeners[job_id]:
                    listener.put(batch, self._looks)

    def _reset(self) -> FeedEvent:
        return FeedEvent(str(self._place), FeedKind.RESET, self._clock.now())
