"""Outcomes on their way to the store: batched, insisted on, and told of afterwards.

What lives here: `embedded_tasks/settler.py`. What does not: what an outcome means
(`test_settling.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from embedded_tasks.attempt import Attempt
from embedded_tasks.config import Retention
from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.events import EventName
from embedded_tasks.job import (
    AttemptError,
    Failed,
    Held,
    Interrupted,
    Outcome,
    RetryLater,
    Settlement,
    Snoozed,
    Succeeded,
)
from embedded_tasks.processes import INTERRUPTED
from embedded_tasks.settler import Ended, Settler, SettlerHooks
from tests.support.clock import FakeClock
from tests.support.events import Events
from tests.support.jobs import ME, claimed_job, job_id
from tests.support.turns import until
from tests.support.workers import Marks

pytestmark = pytest.mark.anyio

DONE = Succeeded("null")
ERROR = AttemptError("ValueError", "bad", "Traceback")


class FakeStore:
    """A store that remembers batches, and answers as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[Settlement]] = []
        self.errors: list[Exception] = []
        self.cancelled: set[str] = set()
        self.lost: set[str] = set()
        self.bad: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def settle(self, rows: list[Settlement]) -> dict[str, bool]:
        self.batches.append(list(rows))
        self.asked.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if any(row.id in self.bad and row.outcome != "failed" for row in rows):
            raise StoreError("this row cannot be")
        return {row.id: row.id in self.cancelled for row in rows if row.id not in self.lost}

    @property
    def ids(self) -> list[list[str]]:
        return [[row.id for row in rows] for rows in self.batches]


class Desk:
    """A settler and what it told."""

    def __init__(self, *, hears: bool = True) -> None:
        self.clock = FakeClock()
        self.store = FakeStore()
        self.marks = Marks()
        self.settled: list[list[str]] = []
        self.queued: list[float] = []
        self.events = Events()
        self.settler = Settler(
            cast(Any, self.store),
            ME,
            self.marks,
            self.clock,
            retention=Retention(),
            hooks=SettlerHooks(
                self.settled.append,
                self.queued.append,
                self.events,
                lambda event, _: event,
                hear_of_success=hears,
            ),
        )
        self.loop = asyncio.create_task(self.settler.run())

    def add(self, number: int, outcome: Outcome = DONE, **job: Any) -> None:
        class Told:
            started_at = self.clock.now() - 2.0
            block = None

        told: Any = Told()
        told.job = claimed_job(number, **job)
        mark = self.marks.mark(bytes(16), 1)
        self.settler.add(Ended(cast(Attempt, told), outcome, mark, self.clock.now()))

    async def written(self) -> None:
        await self.settler.written()

    async def close(self) -> None:
        self.store.gate.set()
        self.settler.close()
        await self.loop


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.close()


async def test_what_ends_while_a_commit_is_under_way_goes_into_the_next(desk: Desk) -> None:
    desk.store.gate.clear()
    desk.add(1)
    await desk.store.asked.wait()
    for number in (2, 3, 4):
        desk.add(number)
    desk.store.gate.set()
    await desk.written()
    assert desk.store.ids == [[job_id(1)], [job_id(2), job_id(3), job_id(4)]]


async def test_a_mark_goes_only_after_its_outcome_is_on_disk(desk: Desk) -> None:
    desk.store.gate.clear()
    desk.add(1)
    await desk.store.asked.wait()
    assert len(desk.marks.marks) == 1
    desk.store.gate.set()
    await desk.written()
    assert desk.marks.marks == {}


async def test_where_nobody_hears_of_successes_only_the_others_are_told() -> None:
    desk = Desk(hears=False)
    desk.add(1)
    desk.add(2, Failed("bad", ERROR))
    await desk.written()
    assert [event.job_id for event in desk.events.seen] == [job_id(2)]
    assert desk.settled == [[job_id(1), job_id(2)]]
    await desk.close()


async def test_the_ends_are_told_after_the_commit(desk: Desk) -> None:
    desk.add(1)
    desk.add(2, Failed("bad", ERROR))
    desk.add(3, Held("gone", "arguments"))
    desk.add(4, RetryLater(30, ERROR))
    await desk.written()
    assert desk.settled == [[job_id(1), job_id(2), job_id(3)]]
    assert desk.queued == [desk.clock.now() + 30]
    assert desk.events.names == ["job.succeeded", "job.failed", "job.held", "job.retry_scheduled"]


async def test_the_earliest_due_time_is_told_and_followers_are_due_at_once(desk: Desk) -> None:
    desk.add(1, Snoozed(60, ""))
    desk.add(2, Snoozed(20, ""))
    await desk.written()
    desk.add(3, DONE, leads=True)
    await desk.written()
    assert desk.queued == [desk.clock.now() + 20, 0.0]


async def test_an_event_tells_of_the_attempt_and_never_of_its_arguments(desk: Desk) -> None:
    desk.add(1, RetryLater(30, ERROR), request_id="r1", attempt=2, args="[1,[4711],{}]")
    await desk.written()
    (event,) = desk.events.seen
    assert (event.name, event.job_id, event.task) == ("job.retry_scheduled", job_id(1), "shop:send")
    assert (event.attempt, event.request_id) == (2, "r1")
    assert event.details == {
        "duration": 2.0,
        "delay": 30.0,
        "reason": "ValueError: bad",
        "error_type": "ValueError",
        "traceback": "Traceback",
    }
    assert "4711" not in repr(event)


async def test_an_outcome_that_was_not_ours_any_more_is_not_told(desk: Desk) -> None:
    desk.store.lost = {job_id(1)}
    desk.add(1)
    desk.add(2)
    await desk.written()
    assert desk.settled == [[job_id(2)]]
    assert [event.job_id for event in desk.events.seen] == [job_id(2)]
    assert desk.marks.marks == {}


async def test_who_waits_for_a_job_that_is_cancelled_instead_of_retried_is_told(
    desk: Desk,
) -> None:
    desk.store.cancelled = {job_id(1)}
    desk.add(1, RetryLater(30, ERROR))
    await desk.written()
    assert desk.settled == [[job_id(1)]]


# What goes wrong.


async def test_an_outcome_is_written_again_until_the_store_takes_it(desk: Desk) -> None:
    desk.store.errors = [StoreUnavailableError("full")] * 9
    with capture_logs() as lines:
        desk.add(1)
        for wait in [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]:
            desk.store.asked.clear()
            await until(lambda: desk.clock.waits)
            assert desk.clock.waits == [pytest.approx(wait)]
            assert desk.settled == []
            assert len(desk.marks.marks) == 1
            desk.clock.advance(wait)
        await desk.written()
    assert desk.settled == [[job_id(1)]]
    assert len(desk.store.batches) == 10
    assert {line["event"] for line in lines} == {"store.unavailable"}


async def test_one_outcome_that_is_refused_costs_only_itself(desk: Desk) -> None:
    desk.store.bad = {job_id(2)}
    with capture_logs() as lines:
        for number in (1, 2, 3):
            desk.add(number)
        await desk.written()
    (ended,) = desk.settled
    assert sorted(ended) == [job_id(1), job_id(2), job_id(3)]
    last = {row.id: row for rows in desk.store.batches for row in rows}[job_id(2)]
    assert (last.state, last.outcome, last.result) == ("failed", "failed", None)
    assert "this row cannot be" in (last.reason or "")
    assert [line["event"] for line in lines] == ["job.not_settled"]


async def test_an_outcome_that_cannot_be_stored_even_as_a_failure_keeps_its_mark(
    desk: Desk,
) -> None:
    desk.store.errors = [StoreError("no"), StoreError("no")]
    with capture_logs() as lines:
        desk.add(1)
        await desk.written()
    assert len(desk.marks.marks) == 1
    assert desk.settled == [[]]
    assert len(lines) == 2


async def test_a_mark_that_cannot_be_cleared_stops_nobody(desk: Desk) -> None:
    desk.add(1)
    desk.marks.full = True
    with capture_logs() as lines:
        await desk.written()
    assert desk.settled == [[job_id(1)]]
    assert [line["event"] for line in lines] == ["mark.not_cleared"]


async def test_closing_writes_what_waits(desk: Desk) -> None:
    desk.store.gate.clear()
    desk.add(1)
    await desk.store.asked.wait()
    desk.add(2)
    desk.settler.close()
    desk.store.gate.set()
    await desk.loop
    assert len(desk.store.batches) == 2


async def test_closing_does_not_wait_for_ever_and_leaves_the_marks_to_recovery(
    desk: Desk,
) -> None:
    desk.store.errors = [StoreUnavailableError("full")] * 99
    with capture_logs():
        desk.add(1)
        desk.add(2, Interrupted())
        desk.settler.close()
        while not desk.loop.done():
            desk.clock.advance(10)
            await asyncio.sleep(0)
    # What the shutdown interrupted is not taken for what a death has ended.
    assert desk.marks.flags() == [0, INTERRUPTED]
    assert desk.settled == [[]]
    desk.store.errors.clear()


def test_the_names_of_events_are_constant() -> None:
    assert [name.value for name in EventName] == [
        "job.started",
        "job.succeeded",
        "job.retry_scheduled",
        "job.snoozed",
        "job.failed",
        "job.cancelled",
        "job.expired",
        "job.held",
        "job.interrupted",
        "job.crashed",
        "job.abandoned",
        "job.blocked_loop",
    ]
