"""The feed: what happens is told in order, once more after a restart, and ends with the runner.

What lives here: `runner.reports.events`. What does not: SSE. Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from embedded_tasks import JobContext, feed
from embedded_tasks.events import EventName
from embedded_tasks.reported import FeedEvent, FeedKind
from embedded_tasks.store import Place, news
from tests.support.runners import Timed, running
from tests.support.tasks import flaky, note, wait, world
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio


async def tell(ctx: JobContext) -> None:
    ctx.progress(1, 2, "half")
    ctx.log("a line")
    world.started.set()
    await world.go_on.wait()


class Heard:
    """A listener, and what it has heard."""

    def __init__(self, timed: Timed, after: str | None = None, job_id: str | None = None) -> None:
        self._timed = timed
        self.events: list[FeedEvent] = []
        self._changed = asyncio.Event()
        self._stream = timed.runner.reports.events(after, job_id=job_id)
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._stream:
            self.events.append(event)
            self._changed.set()

    async def listening(self) -> None:
        """Return when it has joined."""
        session = self._timed.runner._session
        assert session is not None
        before = session.operating.feed.listeners
        await until(lambda: session.operating.feed.listeners != before or self.events)
        await self._timed.runner.counts()

    async def until(self, *kinds: FeedKind) -> list[FeedEvent]:
        """Let time pass until these kinds were heard, as often as they are given."""
        while any(self.kinds.count(kind) < kinds.count(kind) for kind in kinds):
            self._timed.clock.advance(1.0)
            self._changed.clear()
            await self._timed.runner.counts()
            await turns()
        return self.events

    @property
    def kinds(self) -> list[FeedKind]:
        return [event.kind for event in self.events]


@asynccontextmanager
async def heard(
    timed: Timed, after: str | None = None, job_id: str | None = None
) -> AsyncIterator[Heard]:
    listener = Heard(timed, after, job_id)
    await listener.listening()
    try:
        yield listener
    finally:
        listener.task.cancel()
        await asyncio.gather(listener.task, return_exceptions=True)


async def test_what_happens_to_a_job_is_told_in_its_order() -> None:
    async with running() as timed, heard(timed) as listener:
        world.raises = [ValueError("bad"), None]
        job = await timed.runner.enqueue(flaky, 1)
        await listener.until(FeedKind.ENQUEUED, FeedKind.ATTEMPT, FeedKind.FINISHED)
        told = [
            (event.kind.value, event.attempt, event.outcome)
            for event in listener.events
            if event.job_id == job.id and event.kind is not FeedKind.STARTED
        ]
        assert [told[0][0], *told[1:]] == [
            "enqueued",
            ("attempt", 1, "retry"),
            ("finished", 2, "succeeded"),
        ]
        assert listener.events[0].task == "tests.support.tasks:flaky"
        times = [event.at for event in listener.events]
        assert times == sorted(times)


async def test_what_was_so_before_is_no_news() -> None:
    async with running() as timed:
        await (await timed.runner.enqueue(note, 1)).result()
        async with heard(timed) as listener:
            job = await timed.runner.enqueue(note, 2)
            await listener.until(FeedKind.FINISHED)
            assert {event.job_id for event in listener.events} == {job.id}


async def test_a_listener_that_comes_back_hears_what_it_missed_also_after_a_restart(
    tmp_path: Path,
) -> None:
    file = str(tmp_path / "tasks.db")
    async with running(file) as timed:
        async with heard(timed) as listener:
            await (await timed.runner.enqueue(note, 1)).result()
            await listener.until(FeedKind.FINISHED)
            last = listener.events[-1].id
        timed.clock.advance(60)
        missed = await timed.runner.enqueue(note, 2)
        await missed.result()
    async with running(file) as timed:
        timed.clock.jump(120)
        async with heard(timed, last) as listener:
            events = await listener.until(FeedKind.ENQUEUED, FeedKind.FINISHED)
            assert [e.kind for e in events if e.job_id == missed.id] == [
                FeedKind.ENQUEUED,
                FeedKind.FINISHED,
            ]
            assert FeedKind.RESET not in listener.kinds


@pytest.mark.parametrize("after", ["", "x", "1-2", "999999-0-0", "1-1-1", "-1-0-0", "1" * 30])
async def test_a_place_that_is_none_or_too_far_back_is_answered_by_a_reset(after: str) -> None:
    async with running() as timed, heard(timed, after) as listener:
        await listener.until(FeedKind.RESET)
        assert listener.kinds == [FeedKind.RESET]
        assert Place.of(listener.events[0].id) is not None


async def test_acts_of_operators_are_told() -> None:
    async with running() as timed, heard(timed) as listener:
        await timed.runner.control.pause("mail", by="ada")
        (event,) = await listener.until(FeedKind.OPERATOR)
        assert (event.outcome, event.details["by"], event.details["target"]) == (
            "pause",
            "ada",
            "mail",
        )


async def test_a_running_job_tells_its_progress_and_its_lines() -> None:
    async with running() as timed:
        job = await timed.runner.enqueue(tell)
        await world.started.wait()
        async with heard(timed, job_id=job.id) as listener:
            events = await listener.until(FeedKind.PROGRESS, FeedKind.LOG)
            progress = next(event for event in events if event.kind is FeedKind.PROGRESS)
            assert progress.details == {"done": 1, "total": 2, "message": "half"}
            world.go_on.set()
            await listener.until(FeedKind.FINISHED)


async def test_a_listener_to_one_job_hears_of_no_other() -> None:
    async with running() as timed:
        job = await timed.runner.enqueue(wait)
        async with heard(timed, job_id=job.id) as listener, heard(timed) as other:
            await (await timed.runner.enqueue(note, 1)).result()
            world.go_on.set()
            await listener.until(FeedKind.FINISHED)
            await other.until(FeedKind.FINISHED, FeedKind.FINISHED)
            assert {event.job_id for event in listener.events} == {job.id}


async def test_a_listener_that_does_not_read_is_told_that_it_missed_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "_MOST_WAITING", 3)
    async with running() as timed:
        stream = timed.runner.reports.events()
        first = asyncio.ensure_future(anext(stream))
        session = timed.runner._session
        assert session is not None
        await until(lambda: session.operating.feed.listeners == 1)
        feeding = session.operating.feed
        for number in range(4):
            await (await timed.runner.enqueue(note, number)).result()
            before = feeding._looks
            # It does not read while these are told, but for the first.
            timed.clock.advance(1.0)
            await until(lambda: feeding._looks > before)  # noqa: B023  # called at once
        kinds = [(await first).kind]
        while FeedKind.RESET not in kinds:
            kinds.append((await anext(stream)).kind)
        assert len(kinds) <= 4
        await cast(AsyncGenerator[FeedEvent, None], stream).aclose()


async def test_more_than_anybody_can_follow_is_told_by_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(news, "_MOST", 5)
    async with running() as timed, heard(timed) as listener:
        for number in range(10):
            await timed.runner.enqueue(note, number)
        await timed.events.wait(EventName.SUCCEEDED, 10)
        await listener.until(FeedKind.RESET)


async def test_a_stream_ends_when_the_runner_stops() -> None:
    async with running() as timed:
        listener = Heard(timed)
        await listener.listening()
    await listener.task
    assert listener.events == []


async def test_nothing_is_read_while_nobody_listens() -> None:
    async with running() as timed:
        session = timed.runner._session
        assert session is not None
        async with heard(timed):
            assert session.operating.feed.listeners == 1
        assert session.operating.feed.listeners == 0
        await (await timed.runner.enqueue(note, 1)).result()
        timed.clock.advance(5)
        assert session.operating.feed._timer is None
        assert session.operating.feed._task is None
