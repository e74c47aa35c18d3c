"""All events as bytes, made once for all streams of a router, and sent as few times as can be.

What lives here: one listener for all streams, what it heard last, and how a stream goes on from
there. What does not: what happens (`runner.reports`), and how events look (`feed`, `sse`). Called
by `streams`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import structlog

from embedded_tasks.admin.desk import Desk
from embedded_tasks.admin.feed import data_of
from embedded_tasks.admin.sse import KEEP_ALIVE, frame, retry
from embedded_tasks.errors import EmbeddedTasksError
from embedded_tasks.feed import Listener
from embedded_tasks.reported import EventKey, FeedEvent, FeedKind

__all__ = ["Broadcast"]

_log = structlog.get_logger("embedded_tasks")

_MOST_KEPT: Final = 2 * 1024 * 1024
_AT_ONCE: Final = 100
# For so many batches after it caught up, a stream may be told the same again.
_FOUND_TWICE: Final = 3


@dataclass(frozen=True, slots=True)
class _Batch:
    """What was told at one time: each event's bytes, and all of them."""

    last: str
    keys: Sequence[EventKey]
    frames: Sequence[bytes]
    data: bytes

    def without(self, known: AbstractSet[EventKey]) -> bytes:
        """Return the bytes of what is not known."""
        if known.isdisjoint(self.keys):
            return self.data
        pairs = zip(self.keys, self.frames, strict=True)
        return b"".join(made for key, made in pairs if key not in known)


class _Stream:
    """Where a stream is: behind which batch, and with which event it ended."""

    def __init__(self, position: int, last: str) -> None:
        self.position = position
        self.last = last
        self.known: AbstractSet[EventKey] = frozenset()
        self.known_until = 0


class Broadcast:
    """The streams of all events of a router.

    An event is made into bytes once, and what is told at one time is one batch, which each stream
    sends as one piece. A stream keeps nothing but its place: who reads too slowly to find it among
    the last batches is told from the file what it has missed, as if it had come again.

    Args:
        desk: What all endpoints share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._streams = 0
        self._told = 0
        self._batches: deque[_Batch] = deque()
        self._kept = 0
        self._next: asyncio.Future[None] | None = None
        self._joined: asyncio.Task[Listener] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._caught: tuple[Sequence[FeedEvent], asyncio.Task[_Batch]] | None = None

    async def frames(self, after: str | None) -> AsyncIterator[bytes]:
        """Yield a whole stream as bytes.

        Args:
            after: The id of the last event that the client has seen.
        """
        loop = asyncio.get_running_loop()
        pace = self._desk.pace
        end = loop.time() + pace.life
        self._streams += 1
        try:
            yield retry()
            # First it listens, then it catches up: nothing that happens meanwhile falls in between.
            await self._join()
            stream = _Stream(self._told, after or await self._desk.runner.reports.place())
            yield frame("open", {}, stream.last)
            if after is not None:
                yield await self._catch_up(stream)
            while not self._has_ended() and (left := end - loop.time()) > 0:
                if stream.position < self._told:
                    if data := await self._after(stream):
                        yield data
                elif not await self._wait(min(left, pace.keep_alive)):
                    yield KEEP_ALIVE
        finally:
            self._leave()

    async def _wait(self, seconds: float) -> bool:
        """Return whether something was told, or all has ended, within this time."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._next,), timeout=seconds)
        return bool(done)

    async def _join(self) -> None:
        if self._joined is None:
            self._joined = asyncio.create_task(self._desk.runner.reports.listener())
            self._joined.add_done_callback(lambda done: done.cancelled() or done.exception())
        joined = self._joined
        listener = await asyncio.shield(joined)
        if self._pump is None and joined is self._joined:
            self._pump = asyncio.create_task(self._run(listener), name="embedded_tasks broadcast")

    def _leave(self) -> None:
        self._streams -= 1
        if self._streams:
            return
        if self._pump is not None:
            self._pump.cancel()
        if self._joined is not None:
            self._joined.add_done_callback(_close)
        self._joined = self._pump = self._next = self._caught = None
        self._batches.clear()
        self._kept = 0

    def _has_ended(self) -> bool:
        return self._pump is None or self._pump.done()

    async def _run(self, listener: Listener) -> None:
        runner = self._desk.runner
        stopped = asyncio.ensure_future(runner.stopping.wait())
        stopped.add_done_callback(lambda _: listener.end())
        try:
            while (events := await listener.next()) is not None:
                self._tell(await self._made(events))
        except EmbeddedTasksError:
            _log.exception("broadcast.failed")
        finally:
            stopped.cancel()
            # Those who wait look again, and find that this has ended.
            asyncio.get_running_loop().call_soon(self._wake)

    def _tell(self, batch: _Batch) -> None:
        self._batches.append(batch)
        self._kept += len(batch.data)
        while self._kept > _MOST_KEPT and len(self._batches) > 1:
            self._kept -= len(self._batches.popleft().data)
        self._told += 1
        self._wake()

    def _wake(self) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _after(self, stream: _Stream) -> bytes:
        """Return the next batch of a stream."""
        behind = self._told - stream.position
        if behind > len(self._batches):
            return await self._catch_up(stream)
        batch = self._batches[-behind]
        stream.position += 1
        stream.last = batch.last
        if not stream.known:
            return batch.data
        data = batch.without(stream.known)
        if stream.position >= stream.known_until:
            stream.known = frozenset()
        return data

    async def _catch_up(self, stream: _Stream) -> bytes:
        """Return what has happened since the last event of a stream, read from the file."""
        stream.position = self._told
        events = await self._desk.runner.reports.missed(stream.last)
        if events is None:
            stream.last = await self._desk.runner.reports.place()
            at = self._desk.runner.reports.now()
            event = FeedEvent(stream.last, FeedKind.RESET, at)
            return frame(event.kind.value, data_of(event, self._desk.shown.masking), event.id)
        if not events:
            return b""
        if self._caught is None or self._caught[0] is not events:
            # The same list was read for all who asked at the same time.
            self._caught = events, asyncio.create_task(self._made(events))
        batch = await asyncio.shield(self._caught[1])
        stream.last = batch.last
        stream.known = frozenset(batch.keys)
        stream.known_until = stream.position + _FOUND_TWICE
        return batch.data

    async def _made(self, events: Sequence[FeedEvent]) -> _Batch:
        """Return events as bytes, secrets masked."""
        desk, none = self._desk, self._desk.shown.masking
        says = {each.job_id for each in events if each.job_id is not None and _says(each)}
        maskings = await desk.maskings_for(says) if says else {}
        frames: list[bytes] = []
        for number, event in enumerate(events, 1):
            masking = maskings.get(event.job_id or "", none)
            frames.append(frame(event.kind.value, data_of(event, masking), event.id))
            if number % _AT_ONCE == 0:
                # Requests come before streams.
                await asyncio.sleep(0)
        keys = [event.key for event in events]
        return _Batch(events[-1].id, keys, frames, b"".join(frames))


def _says(event: FeedEvent) -> bool:
    return any(isinstance(each, str) for each in event.details.values())


def _close(joined: asyncio.Task[Listener]) -> None:
    if not joined.cancelled() and joined.exception() is None:
        joined.result().close()
