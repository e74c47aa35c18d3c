"""Many streams of all events: each event is made into bytes once, and sent as few times as can be.

What lives here: counts, and that nothing is lost. What does not: seconds (the benchmark has them).
Run by pytest.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from embedded_tasks.admin import broadcast
from embedded_tasks.admin.access import Access
from embedded_tasks.admin.broadcast import Broadcast
from embedded_tasks.admin.desk import Desk
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.sse import frame
from embedded_tasks.events import EventName
from embedded_tasks.feed import Feed
from embedded_tasks.reported import FeedEvent
from embedded_tasks.store.reader import Reader
from tests.support.runners import Timed, running
from tests.support.tasks import note
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio

STREAMS = 50


class Watcher:
    """One stream, and the pieces that came of it."""

    def __init__(self, source: Broadcast, after: str | None = None) -> None:
        self.pieces: list[bytes] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._frames = source.frames(after)
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async for piece in self._frames:
            self.pieces.append(piece)
            await self.goes_on.wait()

    @property
    def told(self) -> list[tuple[str, str, str | None, Any]]:
        """What was told: id, name, job, attempt."""
        found = []
        for each in b"".join(self.pieces).decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in each.splitlines() if ": " in line)
            if lines.get("event", "open") != "open":
                data = json.loads(lines["data"])
                found.append((lines["id"], lines["event"], data.get("job"), data.get("attempt")))
        return found

    def ends(self) -> list[str]:
        return [job for _, name, job, _ in self.told if name == "finished" and job]


def broadcast_of(timed: Timed) -> Broadcast:
    return Broadcast(Desk(timed.runner, Access((), (), ()), name="tasks", pace=Pace()))


def feed_of(timed: Timed) -> Feed:
    session = timed.runner._session
    assert session is not None
    return session.operating.feed


async def opened(watcher: Watcher) -> Watcher:
    await until(lambda: len(watcher.pieces) >= 2)
    return watcher


@asynccontextmanager
async def watching(source: Broadcast, count: int = 1) -> AsyncIterator[list[Watcher]]:
    watchers = [Watcher(source) for _ in range(count)]
    for watcher in watchers:
        await opened(watcher)
    try:
        yield watchers
    finally:
        for watcher in watchers:
            watcher.task.cancel()
        await asyncio.gather(*(each.task for each in watchers), return_exceptions=True)


async def look(timed: Timed) -> None:
    """Let the feed look at the file once."""
    feed = feed_of(timed)
    before = feed._looks
    timed.clock.advance(1.0)
    await until(lambda: feed._looks > before)


async def jobs(timed: Timed, count: int) -> list[str]:
    """Enqueue jobs and see them ended."""
    before = len(timed.events.named(EventName.SUCCEEDED))
    made = [await timed.runner.enqueue(note, number) for number in range(count)]
    await timed.events.wait(EventName.SUCCEEDED, before + count)
    return [job.id for job in made]


async def test_fifty_streams_of_a_thousand_jobs_cost_one_encoding_and_few_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Counter[bytes] = Counter()
    reads: list[None] = []
    run = Reader.run

    def counted(*given: Any) -> bytes:
        made[data := frame(*given)] += 1
        return data

    async def read(self: Reader, work: Any) -> Any:
        reads.append(None)
        return await run(self, work)

    async with running() as timed:
        source = broadcast_of(timed)
        async with watching(source, STREAMS) as watchers:
            monkeypatch.setattr(broadcast, "frame", counted)
            monkeypatch.setattr(Reader, "run", read)
            opening = sum(len(each.pieces) for each in watchers)
            looks = feed_of(timed)._looks
            ended = []
            for _ in range(4):
                ended += await jobs(timed, 250)
                await look(timed)
            await until(lambda: all(len(each.ends()) == 1_000 for each in watchers))
            looks = feed_of(timed)._looks - looks
            sends = sum(len(each.pieces) for each in watchers) - opening
            assert {tuple(each.ends()) for each in watchers} == {tuple(ended)}
            # Each event once, for all.
            assert set(made.values()) == {1}
            assert len(made) == len(watchers[0].told)
            # What one look has found is one piece for each.
            assert looks <= 8
            assert sends <= looks * STREAMS
            # The number of the file, what ended, what runs: for each look, however much it finds.
            assert len(reads) <= 4 * looks
            # They are the very same bytes, and not copies.
            assert len({id(each.pieces[-1]) for each in watchers}) == 1


async def test_a_stream_that_reads_slowly_is_told_from_the_file_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast, "_MOST_KEPT", 1)
    async with running() as timed, watching(broadcast_of(timed), 2) as (slow, quick):
        slow.goes_on.clear()
        ended = []
        for _ in range(5):
            ended += await jobs(timed, 2)
            await look(timed)
        await until(lambda: len(quick.ends()) == 10)
        assert len(slow.ends()) < 10
        slow.goes_on.set()
        await until(lambda: len(set(slow.ends())) == 10)
        assert quick.ends() == ended
        assert "reset" not in {name for _, name, _, _ in slow.told}


async def test_those_who_come_again_together_are_told_by_two_readings_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings: list[None] = []
    async with running() as timed:
        source, feed = broadcast_of(timed), feed_of(timed)
        async with watching(source) as (first,):
            await jobs(timed, 1)
            await look(timed)
            await until(first.ends)
            last = first.told[-1][0]
            missed = await jobs(timed, 20)
            since = feed._news.since

            def counted(*given: Any) -> Any:
                readings.append(None)
                return since(*given)

            monkeypatch.setattr(feed._news, "since", counted)
            again = [Watcher(source, last) for _ in range(STREAMS)]
            await until(lambda: all(len(each.pieces) >= 3 for each in again))
            for each in again:
                assert set(missed) <= set(each.ends())
                each.task.cancel()
            await asyncio.gather(*(each.task for each in again), return_exceptions=True)
        assert len(readings) <= 2


async def test_an_end_between_listening_and_catching_up_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as timed:
        source, feed = broadcast_of(timed), feed_of(timed)
        async with watching(source) as (first,):
            here = await timed.runner.reports.place()
            missed = feed.missed
            between: list[str] = []

            async def late(after: str) -> Sequence[FeedEvent] | None:
                between.extend(await jobs(timed, 1))
                await look(timed)
                await until(first.ends)
                found = await missed(after)
                between.extend(await jobs(timed, 1))
                return found

            monkeypatch.setattr(feed, "missed", late)
            again = await opened(Watcher(source, here))
            await until(lambda: len(again.pieces) >= 3)
            await look(timed)
            await until(lambda: len(set(again.ends())) == 2)
            await look_on(timed)
            assert again.ends() == between
            again.task.cancel()
            await asyncio.gather(again.task, return_exceptions=True)


async def look_on(timed: Timed) -> None:
    for _ in range(3):
        await jobs(timed, 0)
        timed.clock.advance(1.0)
        await timed.runner.counts()
        await turns()


async def test_nobody_listens_when_the_last_stream_has_ended() -> None:
    async with running() as timed:
        source = broadcast_of(timed)
        async with watching(source, 3):
            assert feed_of(timed).listeners == 1
        await until(lambda: feed_of(timed).listeners == 0)
        async with watching(source) as (again,):
            await jobs(timed, 1)
            await look(timed)
            await until(again.ends)


async def test_all_streams_end_with_the_runner() -> None:
    async with running() as timed:
        source = broadcast_of(timed)
        watchers = [await opened(Watcher(source)) for _ in range(STREAMS)]
    await asyncio.gather(*(each.task for each in watchers))
