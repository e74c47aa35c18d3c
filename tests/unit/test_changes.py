"""That something has changed is told soon, seldom, and at no cost where nobody wants to know.

What lives here: `runner.reports.changes`. What does not: pages. Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from embedded_tasks.changes import Change, Changes
from tests.support.runners import Timed, running
from tests.support.tasks import note
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio


class Followed:
    """One who follows, and what was told."""

    def __init__(self, timed: Timed, after: str | None = None) -> None:
        self._timed = timed
        self.told: list[Change] = []
        self._source = timed.runner.reports.changes(after)
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for change in self._source:
            self.told.append(change)

    async def after(self, seconds: float) -> list[Change]:
        """Let so much time pass; return all that was told."""
        self._timed.clock.advance(seconds)
        await turns()
        # What was begun by that is over when this is answered.
        await self._timed.runner.reports.mark()
        await turns()
        return self.told


def changes_of(timed: Timed) -> Changes:
    session = timed.runner._session
    assert session is not None
    return session.operating.feed.changes


@asynccontextmanager
async def following(timed: Timed, after: str | None = None) -> AsyncIterator[Followed]:
    followed = Followed(timed, after)
    changes = changes_of(timed)
    await until(lambda: changes._task is not None)
    # Its first look is over.
    await followed.after(0.0)
    await followed.after(0.0)
    try:
        yield followed
    finally:
        followed.task.cancel()
        await asyncio.gather(followed.task, return_exceptions=True)


async def end_a_job(timed: Timed) -> None:
    await (await timed.runner.enqueue(note, 1)).result()


async def test_a_change_is_told_soon_and_without_one_nothing_is() -> None:
    async with running() as timed, following(timed) as followed:
        assert await followed.after(10.0) == []
        await end_a_job(timed)
        (change,) = await followed.after(0.15)
        assert change.mark == await timed.runner.reports.mark()
        assert change.within == 0.15
        assert timed.runner.reports.last_mark == change.mark


async def test_however_much_happens_is_told_every_two_seconds() -> None:
    async with running() as timed, following(timed) as followed:
        for _ in range(100):
            await end_a_job(timed)
            await followed.after(0.1)
        # In ten seconds.
        assert 4 <= len(followed.told) <= 6
        assert followed.told[-1].within == 1.0


async def test_the_more_follow_the_less_often_they_are_told() -> None:
    async with running() as timed, AsyncExitStack() as stack:
        many = [await stack.enter_async_context(following(timed)) for _ in range(60)]
        for _ in range(100):
            await end_a_job(timed)
            await many[0].after(0.1)
        told = {tuple(each.told) for each in many}
        assert len(told) == 1
        # All together they look no more than 15 times a second.
        assert 2 <= len(many[0].told) <= 3
        assert many[0].told[-1].within == 2.0


async def test_what_changed_before_somebody_followed_is_told_at_once() -> None:
    async with running() as timed:
        mark = await timed.runner.reports.mark()
        async with following(timed, mark) as followed:
            assert followed.told == []
        await end_a_job(timed)
        async with following(timed, mark) as followed:
            await until(lambda: followed.told)
            assert followed.told[0].mark != mark


async def test_a_change_between_listening_and_comparing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as timed:
        mark, compare = await timed.runner.reports.mark(), Changes.mark

        async def late(self: Changes) -> str:
            found = await compare(self)
            if found == mark:
                # It has looked, and has not been answered yet.
                await end_a_job(timed)
            return found

        monkeypatch.setattr(Changes, "mark", late)
        async with following(timed, mark) as followed:
            await until(lambda: followed.told)
            assert followed.told[0].mark != mark


async def test_nobody_looks_while_nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    async with running() as timed:
        changes = changes_of(timed)
        async with following(timed):
            pass
        version = changes._news.version

        def counted() -> Any:
            looks.append(None)
            return version()

        monkeypatch.setattr(changes._news, "version", counted)
        await end_a_job(timed)
        timed.clock.advance(10)
        await turns()
        assert looks == []
        assert (changes._task, changes._timer, timed.runner.reports.last_mark) == (None, None, None)


async def test_who_follows_is_let_go_when_the_runner_stops() -> None:
    async with running() as timed:
        followed = Followed(timed)
        changes = changes_of(timed)
        await until(lambda: changes._task is not None)
    await followed.task
    assert changes_of_ended(changes)


def changes_of_ended(changes: Changes) -> bool:
    return changes.announced is None and not changes._followers
