"""Which stored names this process has the code of.

What lives here: `embedded_tasks/known_tasks.py`. What does not: finding functions
(`test_task.py`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from embedded_tasks.config import Policy
from embedded_tasks.errors import ConfigurationError, UnknownTaskError
from embedded_tasks.job import Held, JobState
from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.store import Store
from embedded_tasks.task import Task
from tests.support.jobs import ME, NOW, OTHER, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import opened, record
from tests.support.tasks import note, note_sync

pytestmark = pytest.mark.anyio

FUNCTIONS = {"shop:a": note, "shop:b": note_sync}


def find(name: str) -> Task:
    if name == "shop:twice":
        raise ConfigurationError("the name is used twice")
    if name not in FUNCTIONS:
        raise UnknownTaskError(name, "it is not there")
    return Task(name, FUNCTIONS[name], Policy(), decorated=False)


class Office:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.held: list[str] = []
        self.tasks = KnownTasks(store, ME, find, self.held.extend)

    async def learn(self) -> tuple[bool, list[str]]:
        """Look at all names of the store; return what came of it, and what was logged."""
        with capture_logs() as lines:
            known = await self.tasks.learn((await self.store.read.task_names()).items())
        return known, [line["task"] for line in lines if line["event"] == "task.unknown"]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened() as store:
        await store.add_process(ME, 1, NOW, runs_jobs=True)
        yield Office(store)


async def test_names_are_sorted_into_async_sync_and_unknown(office: Office) -> None:
    names = ["shop:a", "shop:lost", "shop:b", "shop:twice"]
    for number, name in enumerate(names, start=1):
        await office.store.insert([new_job(number, task=name)])
    assert await office.learn() == (True, ["shop:lost", "shop:twice"])
    assert office.tasks.numbers(True) == [1]
    assert office.tasks.numbers(False) == [3]
    assert office.tasks.names == {1: "shop:a", 3: "shop:b"}
    assert (office.tasks.is_async("shop:a"), office.tasks.is_async("shop:b")) == (True, False)
    assert set(office.tasks.unknown) == {2, 4}
    assert office.tasks.seen == 4


async def test_a_name_is_looked_at_once(office: Office) -> None:
    await office.store.insert([new_job(1, task="shop:a")])
    await office.store.insert([new_job(2, task="shop:lost")])
    assert await office.learn() == (True, ["shop:lost"])
    assert await office.learn() == (False, [])
    assert office.tasks.numbers(True) == [1]


async def test_jobs_of_what_nobody_knows_are_held_and_told_of(office: Office) -> None:
    await office.store.insert([new_job(1, task="shop:lost"), new_job(2, task="shop:a")])
    await office.learn()
    assert office.held == [job_id(1)]
    assert (await record(office.store, 1)).state is JobState.HELD
    assert (await record(office.store, 2)).state is JobState.QUEUED


async def test_jobs_that_a_living_process_may_know_are_left_to_it(office: Office) -> None:
    await office.store.add_process(OTHER, 2, NOW, runs_jobs=True)
    await office.store.insert([new_job(1, task="shop:lost")])
    await office.learn()
    assert office.held == []
    await office.store.remove_process(OTHER)
    await office.tasks.hold()
    assert office.held == [job_id(1)]


async def test_jobs_that_were_held_for_want_of_code_go_on_where_it_is(office: Office) -> None:
    await office.store.insert([running_job(n, task="shop:a") for n in (1, 2, 3)])
    for number, held_for in [(1, "unknown_task"), (2, "arguments"), (3, "crash")]:
        await office.store.settle([settled(claimed_job(number), Held("why", held_for))])
    assert (await office.learn())[0]
    states = [(await record(office.store, n)).state for n in (1, 2, 3)]
    assert states == ["queued", "queued", "held"]
