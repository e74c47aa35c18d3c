"""What happens, told to whoever listens; nobody reads the store while nobody does.

What lives here: one reader for all listeners of a process. What does not: what is read (`News`).
Owned by the session.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from embedded_tasks.clock import Clock, Timer
from embedded_tasks.errors import StoreError
from embedded_tasks.reported import FeedEvent, FeedKind
from embedded_tasks.store import News, Place

__all__ = ["Feed"]

_log = structlog.get_logger("embedded_tasks")

_LOOK_EVERY: Final = 1.0
_SOONEST: Final = 0.2
_MOST_WAITING: Final = 1_000
_REMEMBERED: Final = 20_000
_LONGEST_AWAY: Final = 86_400.0

_Key = tuple[Any, ...]


@dataclass(eq=False, slots=True)
class _Listener:
    job_id: str | None
    events: list[FeedEvent] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    missed: bool = False
    caught_up: set[_Key] = field(default_factory=set)

    def put(self, event: FeedEvent) -> None:
        if self.job_id is not None and event.job_id != self.job_id:
            return
        if _key(event) in self.caught_up:
            # Read when it caught up, and once more by the reader.
            return
        if len(self.events) >= _MOST_WAITING:
            self.miss()
        self.events.append(event)
        self.wake.set()

    def miss(self) -> None:
        """Tell, in place of what was not read yet, that something was missed."""
        self.missed = True
        self.events.clear()
        self.wake.set()


class Feed:
    """Reads on while somebody listens.

    Args:
        news: Where it is read.
        clock: Where the time comes from.
    """

    def __init__(self, news: News, clock: Clock) -> None:
        self._news = news
        self._clock = clock
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._wake = asyncio.Event()
        self._closed = False
        self._place = Place(0, 0, 0.0)
        self._version = -1
        self._told: OrderedDict[_Key, None] = OrderedDict()
        self._running: dict[_Key, tuple[Any, int]] = {}
        self._timer: Timer | None = None

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def poke(self) -> None:
        """Something was written here: look soon, if anybody listens."""
        if self._task is not None and self._timer is None:
            self._timer = self._clock.call_later(_SOONEST, self._look_now)

    def end(self) -> None:
        """End every stream; the process is about to stop."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End every stream and wait for the reader."""
        self.end()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def listen(self, after: str | None, job_id: str | None) -> AsyncIterator[FeedEvent]:
        """Yield what happens, from behind a place on if one is given, until the process stops."""
        listener = _Listener(job_id)
        if self._has_ended():
            return
        try:
            await self._join(listener, after)
            while True:
                await listener.wake.wait()
                listener.wake.clear()
                if self._has_ended():
                    return
                if listener.missed:
                    listener.missed = False
                    yield self._reset()
                events, listener.events = listener.events, []
                for event in events:
                    yield event
        finally:
            self._leave(listener)

    def _has_ended(self) -> bool:
        return self._closed

    async def _join(self, listener: _Listener, after: str | None) -> None:
        await self._start()
        # First it listens, then it catches up: nothing that happens meanwhile falls in between.
        self._listeners.add(listener)
        if after is None:
            return
        now = self._clock.now()
        place, here = Place.of(after), await self._news.now(now)
        if place is None or place.seq > here.seq or now - place.time > _LONGEST_AWAY:
            listener.miss()
        else:
            await self._catch_up(listener, place, now)

    async def _start(self) -> None:
        async with self._starting:
            if self._task is None and not self._closed:
                now = self._clock.now()
                self._place = await self._news.now(now)
                await self._first_look(now)
                self._task = asyncio.create_task(self._run(), name="embedded_tasks feed")

    async def _catch_up(self, listener: _Listener, place: Place, now: float) -> None:
        events, more = await self._news.since(place, now)
        if more:
            listener.miss()
            return
        live, listener.events = listener.events, []
        for event in [*events, *live]:
            listener.put(event)
            listener.caught_up.add(_key(event))

    async def _first_look(self, now: float) -> None:
        """What is so already is no news."""
        self._version = -1
        self._told.clear()
        events, _ = await self._news.since(self._place, now)
        for event in events:
            self._told[_key(event)] = None
        self._running = {
            _key(event): (progress, line) for event, progress, line in await self._news.running(now)
        }

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    def _look_now(self) -> None:
        self._timer = None
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except StoreError as error:
                _log.warning("feed.failed", error=str(error))
            self._wake.clear()
            timer = self._clock.call_later(_LOOK_EVERY, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _look(self) -> None:
        version = await self._news.version()
        if version == self._version:
            return
        self._version = version
        now = self._clock.now()
        events, more = await self._news.since(self._place, now)
        if more:
            # More than anybody can follow: everybody reads anew.
            self._place = await self._news.now(now)
            for listener in self._listeners:
                listener.miss()
        else:
            for event in events:
                if _key(event) not in self._told:
                    self._tell(event)
            if events:
                self._place = Place.of(events[-1].id) or self._place
        await self._look_at_running(now)

    async def _look_at_running(self, now: float) -> None:
        running: dict[_Key, tuple[Any, int]] = {}
        for event, progress, line in await self._news.running(now):
            key = _key(event)
            running[key] = (progress, line)
            told, told_line = self._running.get(key, (None, 0))
            if key not in self._running:
                self._put(replace(event, id=str(self._place)))
            if progress is not None and progress != told:
                self._put(self._said(event, progress))
            if line > told_line:
                self._put(replace(event, id=str(self._place), kind=FeedKind.LOG, at=now))
        self._running = running

    def _said(self, event: FeedEvent, progress: tuple[Any, ...]) -> FeedEvent:
        done, total, message, at = progress
        details = {"done": done, "total": total, "message": message}
        return replace(event, id=str(self._place), kind=FeedKind.PROGRESS, at=at, details=details)

    def _tell(self, event: FeedEvent) -> None:
        self._told[_key(event)] = None
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        self._put(event)

    def _put(self, event: FeedEvent) -> None:
        for listener in self._listeners:
            listener.put(event)

    def _reset(self) -> FeedEvent:
        return FeedEvent(str(self._place), FeedKind.RESET, self._clock.now())


def _key(event: FeedEvent) -> _Key:
    target = event.details.get("target") if event.kind is FeedKind.OPERATOR else event.outcome
    return (event.kind, event.job_id, event.attempt, event.at, target)
