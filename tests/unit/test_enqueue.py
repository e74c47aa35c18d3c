"""The front door: what is checked, how it is stored, and when it starts.

What lives here: `Drafting` and `FrontDoor`. What does not: running (`test_worker.py`). Called by
pytest.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from embedded_tasks.codec import Codec
from embedded_tasks.config import JobOptions, Policy
from embedded_tasks.context import Original
from embedded_tasks.enqueue import Draft, Drafting, FrontDoor, Origin
from embedded_tasks.errors import (
    ArgumentsError,
    ConfigurationError,
    NotDurableError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from embedded_tasks.ids import uuid7_maker
from embedded_tasks.job import ClaimedJob
from embedded_tasks.references import References
from embedded_tasks.store import Store
from embedded_tasks.task import Catalogue
from tests.support import tasks
from tests.support.clock import FakeClock
from tests.support.jobs import ME
from tests.support.stores import Gate, opened

pytestmark = pytest.mark.anyio


class Slots:
    """A worker that only counts its slots."""

    def __init__(self) -> None:
        self.free = {True: 1, False: 1}
        self.started: list[tuple[ClaimedJob, Original | None, bool]] = []

    def take_slot(self, is_async: bool) -> bool:
        taken = self.free[is_async] > 0
        self.free[is_async] -= taken
        return taken

    def give_slot_back(self, is_async: bool) -> None:
        self.free[is_async] += 1

    def start(self, job: ClaimedJob, original: Original | None, *, is_async: bool) -> None:
        self.started.append((job, original, is_async))

    def wake_at(self, when: float) -> None: ...


class Door:
    """A front door, and what it told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = FakeClock()
        self.slots = Slots()
        self.stored: list[float] = []
        names = References(modules=["tests"])
        codec = Codec(names, 1_000)
        self.drafting = Drafting(Catalogue(names), codec, self.clock, uuid7_maker(self.clock.now))
        self.door = FrontDoor(
            self.drafting, store, ME, self.clock, slots=self.slots, stored=self.stored.append
        )

    def draft(self, func: Callable[..., Any], *args: Any, **options: Any) -> Draft:
        return self.drafting.draft(func, args, {}, cast(JobOptions, options))

    async def enqueue(self, func: Callable[..., Any], *args: Any, **options: Any) -> Draft:
        draft = self.draft(func, *args, **options)
        await self.door.enqueue(draft, Origin("r1", "00-1-2-01"))
        return draft

    async def job(self, draft: Draft) -> Any:
        return await self.store.read.get(draft.id, self.clock.now())


@pytest.fixture
async def at() -> AsyncIterator[Door]:
    async with opened() as store:
        yield Door(store)


# Drafts.


async def test_a_draft_has_the_task_s_policy_and_the_job_s_own_options(at: Door) -> None:
    draft = at.draft(tasks.send_receipt, 1, priority=7, max_attempts=4)
    assert (draft.task.name, draft.args) == ("shop.receipt", (1,))
    assert (draft.policy.queue, draft.policy.priority, draft.policy.max_attempts) == ("mail", 7, 4)
    assert json.loads(draft.options_text or "") == {"max_attempts": 4}


async def test_undecorated_functions_have_the_policy_that_is_set_for_them(at: Door) -> None:
    at.drafting.undecorated = Policy(on_crash="hold")
    assert at.draft(tasks.note).policy.on_crash == "hold"
    assert at.draft(tasks.flaky).policy.on_crash == "retry"


async def test_what_cannot_be_run_is_refused_before_anything_is_stored(at: Door) -> None:
    with pytest.raises(TypeError):
        at.draft(cast(Any, None))
    with pytest.raises(NotDurableError):
        at.draft(lambda: None)
    with pytest.raises(ArgumentsError):
        at.draft(tasks.typed, "one", ["a"])
    with pytest.raises(NotDurableError, match="lambda"):
        at.draft(tasks.note, backoff=lambda failures: 1.0)


async def test_arguments_are_encoded_when_they_are_stored_and_not_before(at: Door) -> None:
    names = ["a"]
    draft = at.draft(tasks.note, names)
    names.append("b")
    await at.door.enqueue(draft, Origin())
    assert '["a","b"]' in (await at.job(draft)).args


@pytest.mark.parametrize("bad", [object(), "x" * 2_000])
async def test_arguments_that_cannot_be_stored_are_refused_and_cost_no_slot(
    at: Door, bad: object
) -> None:
    with pytest.raises(NotDurableError) as caught:
        await at.enqueue(tasks.note, bad)
    assert isinstance(caught.value, PayloadTooLargeError) == isinstance(bad, str)
    assert at.slots.free == {True: 1, False: 1}
    assert sum((await at.store.read.counts()).values()) == 0


# Due times.

BERLIN = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("options", "wait"),
    [
        ({}, 0.0),
        ({"delay": 60}, 60.0),
        ({"delay": timedelta(hours=1)}, 3600.0),
        ({"delay": 0}, 0.0),
        ({"run_at": datetime.fromtimestamp(FakeClock().now() + 90, UTC)}, 90.0),
        ({"run_at": datetime.fromtimestamp(FakeClock().now() + 90, BERLIN)}, 90.0),
        ({"run_at": datetime.fromtimestamp(FakeClock().now() - 90, UTC)}, -90.0),
        ({"run_at": None}, 0.0),
    ],
)
async def test_a_job_is_due_when_it_was_said(at: Door, options: Any, wait: float) -> None:
    draft = at.draft(tasks.note, **options)
    job = at.drafting.new_job(draft, Origin(), at.clock.now())
    assert job.due_at == at.clock.now() + wait


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"delay": 1, "run_at": datetime.now(UTC)}, "exclude each other"),
        ({"delay": -1}, "delay=-1"),
        ({"delay": math.nan}, "delay=nan"),
        ({"delay": "soon"}, "delay='soon'"),
        ({"delay": None}, "delay=None"),
        ({"run_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001  # the point
        ({"run_at": 1_900_000_000}, "time zone"),
        ({"run_at": "2030-01-01"}, "time zone"),
    ],
)
async def test_a_due_time_that_is_none_is_refused_when_it_is_given(
    at: Door, options: Any, word: str
) -> None:
    with pytest.raises(ConfigurationError, match=word):
        at.draft(tasks.note, **options)


async def test_limits_count_from_the_due_time(at: Door) -> None:
    draft = await at.enqueue(
        tasks.note, delay=60, start_within=10, finish_within=timedelta(hours=1)
    )
    job = await at.job(draft)
    assert (job.start_by, job.finish_by) == (job.due_at + 10, job.due_at + 3600)


# Stored.


async def test_every_option_that_is_a_column_is_stored(at: Door) -> None:
    options = {"queue": "mail", "tags": ["a", "b"], "priority": 3, "on_crash": "fail"}
    job = await at.job(await at.enqueue(tasks.note, 1, **options))
    assert (job.queue, job.tags, job.priority, job.on_crash) == ("mail", ("a", "b"), 3, "fail")
    assert (job.request_id, job.traceparent) == ("r1", "00-1-2-01")
    assert (job.created_at, job.task) == (at.clock.now(), "tests.support.tasks:note")


async def test_a_due_job_starts_as_soon_as_it_is_on_disk(at: Door) -> None:
    draft = await at.enqueue(tasks.note, 5)
    ((job, original, is_async),) = at.slots.started
    assert (job.id, job.attempt, original, is_async) == (draft.id, 1, None, True)
    kept = await at.job(draft)
    assert (kept.state, kept.owner, kept.attempt) == ("running", ME, 1)
    assert at.stored == []


async def test_it_starts_in_a_slot_of_its_own_kind(at: Door) -> None:
    at.slots.free[True] = 0
    await at.enqueue(tasks.note_sync)
    assert [is_async for *_, is_async in at.slots.started] == [False]


async def test_without_a_free_slot_it_waits_for_whoever_is_free(at: Door) -> None:
    at.slots.free[True] = 0
    draft = await at.enqueue(tasks.note)
    kept = await at.job(draft)
    assert (kept.state, kept.owner, kept.attempt) == ("queued", None, 0)
    assert at.stored == [at.clock.now()]
    assert at.slots.started == []


async def test_a_job_of_the_future_takes_no_slot(at: Door) -> None:
    await at.enqueue(tasks.note, delay=60)
    assert at.slots.free[True] == 1
    assert at.stored == [at.clock.now() + 60]


async def test_a_job_that_could_not_be_stored_gives_its_slot_back() -> None:
    gate = Gate()
    async with opened(gate=gate) as store:
        at = Door(store)
        gate.error = StoreUnavailableError("full")
        with pytest.raises(StoreUnavailableError):
            await at.enqueue(tasks.note)
        assert at.slots.free[True] == 1
        assert at.slots.started == []


async def test_a_caller_that_is_cancelled_gives_its_slot_back() -> None:
    gate = Gate()
    async with opened(gate=gate) as store:
        at = Door(store)
        gate.shut()
        task = asyncio.create_task(at.enqueue(tasks.note))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.let_go()
        await store.expire(0.0)
        assert at.slots.free[True] == 1
        assert sum((await store.read.counts()).values()) == 0


# The jobs of a request.


async def reserve(at: Door, *delays: float) -> list[Any]:
    drafts = [at.draft(tasks.note, n, delay=delay) for n, delay in enumerate(delays)]
    reserved = await at.door.reserve([(d, contextvars.copy_context()) for d in drafts], Origin())
    by_id = {item.job.id: item for item in reserved}
    return [(await at.job(draft), by_id.get(draft.id)) for draft in drafts]


async def test_a_request_s_jobs_are_stored_in_one_transaction_owned_by_this_process(
    at: Door,
) -> None:
    before = at.store.writer.commits
    jobs = await reserve(at, 0, 0, 0)
    assert at.store.writer.commits - before == 1
    assert [(job.state, job.owner, job.attempt) for job, _ in jobs] == [
        ("running", ME, 1),
        ("queued", ME, 0),
        ("queued", ME, 0),
    ]
    assert [item.begun for _, item in jobs] == [True, False, False]
    assert [item.job.leads for _, item in jobs] == [True, True, False]
    assert [item.original.args for _, item in jobs] == [(0,), (1,), (2,)]
    assert at.slots.started == []
    assert at.stored == []


async def test_jobs_of_the_future_are_out_of_the_line(at: Door) -> None:
    jobs = await reserve(at, 60, 0, 30, 0, 90)
    assert [(job.state, job.owner) for job, _ in jobs] == [
        ("queued", None),
        ("running", ME),
        ("queued", None),
        ("queued", ME),
        ("queued", None),
    ]
    reserved = [item for _, item in jobs if item is not None]
    assert [item.begun for item in reserved] == [True, False]
    assert [item.job.leads for item in reserved] == [True, False]
    assert at.stored == [at.clock.now() + 30]


async def test_a_request_with_one_job_that_cannot_be_stored_stores_none(at: Door) -> None:
    drafts = [at.draft(tasks.note, 1), at.draft(tasks.note, object())]
    with pytest.raises(NotDurableError):
        await at.door.reserve([(d, contextvars.copy_context()) for d in drafts], Origin())
    assert sum((await at.store.read.counts()).values()) == 0
