"""Queues are known before they have jobs, and after their last one.

What lives here: which queues are listed. What does not: how long they are (`store_contract`). Run
by pytest.
"""

from __future__ import annotations

import pytest

from embedded_tasks import task
from tests.support.runners import Timed, running
from tests.support.tasks import note

pytestmark = pytest.mark.anyio


@task(queue="known-by-its-task")
async def nightly() -> None: ...


async def listed(timed: Timed) -> list[str]:
    return [queue.name for queue in await timed.runner.reports.queues()]


async def test_a_queue_is_listed_before_its_first_job() -> None:
    async with running(max_queued={"limited": 5}) as timed:
        names = await listed(timed)
        assert {"default", "known-by-its-task", "limited"} <= set(names)
        assert names == sorted(names)


async def test_the_limit_of_all_queues_is_no_queue() -> None:
    async with running(max_queued=5) as timed:
        assert "*" not in await listed(timed)


async def test_a_queue_is_listed_after_its_last_job() -> None:
    async with running() as timed:
        job = await timed.runner.options(queue="mail").enqueue(note)
        await job.result()
        (queue,) = [each for each in await timed.runner.reports.queues() if each.name == "mail"]
        assert (queue.depth.value, queue.running, queue.oldest_wait) == (0, 0, None)


async def test_the_overview_shows_only_queues_with_something_to_do_or_paused() -> None:
    async with running() as timed:
        await timed.runner.control.pause("known-by-its-task")
        overview = await timed.runner.reports.overview()
        assert [queue.name for queue in overview.queues] == ["known-by-its-task"]
