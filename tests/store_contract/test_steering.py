"""What operators and jobs write: pauses, acts, audit, progress, logs, figures, kinds of failures.

What lives here: `Steering` against a store. What does not: who may. Called by pytest, for a file
and for memory.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedded_tasks.job import AttemptError, Failed, Progress, RetryLater, Succeeded
from embedded_tasks.store import Act, Notes, Store
from tests.support.jobs import ME, NOW, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import claim, claim_all, opened, record, rows

pytestmark = pytest.mark.anyio


def act(action: str, target: str) -> Act:
    return Act(NOW, "ada", action, target)


async def ids(store: Store, **options: Any) -> list[int]:
    return [int(job.id[-4:], 16) for job in await claim_all(store, **options)]


# Pauses.


async def test_the_jobs_of_a_paused_queue_are_not_claimed(store: Store) -> None:
    await store.insert([new_job(1, queue="mail"), new_job(2), new_job(3, queue="slow")])
    assert await store.steering.pause(act("pause", "mail"))
    assert not await store.steering.pause(act("pause", "mail"))
    assert await ids(store) == [2, 3]
    assert await store.steering.resume(act("resume", "mail"))
    assert not await store.steering.resume(act("resume", "mail"))
    assert await ids(store) == [1]


async def test_while_a_queue_is_paused_others_keep_their_order(store: Store) -> None:
    await store.steering.pause(act("pause", "paused"))
    await store.insert(
        [
            new_job(1, queue="a", due_at=NOW - 1),
            new_job(2, queue="b", due_at=NOW - 2),
            new_job(3, queue="b", priority=5),
            new_job(4, queue="paused", priority=9),
            new_job(5, queue="a", due_at=NOW + 30),
            new_job(6, queue="a", priority=1),
        ]
    )
    assert await ids(store, limit=2) == [3, 6]
    found = await claim(store)
    assert [int(job.id[-4:], 16) for job in found.jobs] == [2, 1]
    assert found.wake_at == NOW + 30


async def test_a_paused_queue_wakes_nobody(store: Store) -> None:
    await store.insert([new_job(1, due_at=NOW + 30)])
    await store.steering.pause(act("pause", "default"))
    assert (await claim(store)).wake_at is None


async def test_a_suspect_of_a_paused_queue_waits(store: Store) -> None:
    await store.insert([new_job(1), new_job(2, queue="mail")])
    await store._connection.run(
        lambda connection: connection.execute("UPDATE jobs SET crashes = 2")
    )
    await store.steering.pause(act("pause", "default"))
    found = await claim(store)
    assert [job.id for job in found.jobs] == [job_id(2)]
    assert (await claim(store)).wake_at is None
    await store.steering.resume(act("resume", "default"))
    assert await ids(store) == [1]


async def test_a_pause_outlives_the_process(tmp_path: Any) -> None:
    file = str(tmp_path / "tasks.db")
    async with opened(file) as store:
        await store.steering.pause(act("pause", "mail"))
    async with opened(file) as store:
        assert await store.views.paused() == ["mail"]
        (queue,) = await store.views.queues(NOW + 60)
        assert (queue.name, queue.paused, queue.paused_at, queue.paused_by) == (
            "mail",
            True,
            NOW,
            "ada",
        )


# Acts on jobs.


async def test_a_scheduled_or_retrying_job_is_made_due_and_no_other(store: Store) -> None:
    await store.insert([new_job(1, due_at=NOW + 60), new_job(2), running_job(3)])
    await store.insert([new_job(4, due_at=NOW + 60, owner=ME)])
    all_ids = [job_id(number) for number in range(1, 6)]
    assert await store.steering.run_now(all_ids, None, NOW) == [job_id(1)]
    assert (await record(store, 1)).due_at == NOW


async def test_only_finished_and_held_jobs_are_deleted_with_all_that_is_known_of_them(
    store: Store,
) -> None:
    job = running_job(1, tags=json.dumps(["a"]), belongs_to="ada")
    await store.insert([job, new_job(2), running_job(3)])
    error = AttemptError("ValueError", "bad", None, "shop:send")
    await store.settle([settled(claimed_job(1), Failed("bad", error))])
    line = (job.id, 1, NOW, "info", "a line", None, 10)
    await store.steering.note(Notes([(job.id, 1, 1.0, 2.0, None, NOW)], [line], []))
    all_ids = [job_id(number) for number in range(1, 5)]
    assert await store.steering.delete(all_ids, act("delete", job.id)) == [job_id(1)]
    for table in ("attempts", "job_tags", "job_owners", "job_failures", "job_progress"):
        assert await rows(store, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert await rows(store, "SELECT count(*) FROM job_logs") == [(0,)]
    assert await rows(store, "SELECT count(*) FROM jobs") == [(2,)]


async def test_what_was_done_is_written_down_in_the_same_transaction(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.settle([settled(claimed_job(1), Succeeded("null"))])
    commits = store.writer.commits
    assert await store.steering.retry([job_id(1)], act("retry", job_id(1)), NOW)
    assert store.writer.commits == commits + 1
    # Refused: nothing is written down.
    assert not await store.steering.retry([job_id(1)], act("retry", job_id(1)), NOW)
    (entry,) = (await store.views.audit(None, 10)).entries
    assert (entry.by, entry.action, entry.target, entry.at) == ("ada", "retry", job_id(1), NOW)


async def test_the_audit_is_paged_and_keeps_its_newest_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded_tasks.store.steering._AUDIT_KEPT", 5)
    for number in range(8):
        await store.steering.write_down(act("cancel", str(number)))
    page = await store.views.audit(None, 3)
    assert [entry.target for entry in page.entries] == ["7", "6", "5"]
    rest = await store.views.audit(page.next, 3)
    assert ([entry.target for entry in rest.entries], rest.next) == (["4", "3"], None)


# What jobs say.


async def test_the_last_progress_is_kept_unless_it_is_of_an_earlier_attempt(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.steering.note(Notes([(job_id(1), 2, 3.0, 9.0, "rows", NOW)]))
    await store.steering.note(Notes([(job_id(1), 1, 8.0, 9.0, "late", NOW + 1)]))
    await store.steering.note(Notes([(job_id(99), 1, 8.0, 9.0, "nobody's", NOW)]))
    found = await store.views.complete(await record(store, 1))
    assert found.progress == Progress(3.0, 9.0, "rows", NOW, 2)
    assert found.progress is not None
    assert found.progress.share == pytest.approx(1 / 3)


async def test_a_job_keeps_its_newest_lines_up_to_a_size(store: Store) -> None:
    await store.insert([running_job(1), running_job(2)])
    lines = [(job_id(1), 1, NOW + n, "info", f"line {n}", None, 16_000) for n in range(10)]
    other = (job_id(2), 1, NOW, "info", "other", json.dumps({"a": "b"}), 10)
    await store.steering.note(Notes((), [*lines, other]))
    page = await store.views.logs(job_id(1), 0, 100)
    assert [line.text for line in page.lines] == ["line 6", "line 7", "line 8", "line 9"]
    assert page.dropped
    page = await store.views.logs(job_id(2), 0, 100)
    assert [(line.text, line.fields) for line in page.lines] == [("other", {"a": "b"})]
    assert not page.dropped


async def test_figures_add_up_and_go_when_they_are_old(store: Store) -> None:
    hour = int(NOW) // 3600 * 3600
    row = (3600, 0, hour, "shop:send", 0, 2)
    await store.steering.note(Notes((), (), [row, (60, 0, hour, "shop:send", 0, 2)]))
    await store.steering.note(Notes((), (), [row]))
    assert await store.views.figures([0], NOW - 7200) == {0: {"shop:send": {0: 4}}}
    await store.steering.tidy(NOW + 86_400, 1.0)
    assert await rows(store, "SELECT span FROM metrics") == [(3600,)]
    await store.steering.tidy(NOW + 31 * 86_400, 1.0)
    assert await rows(store, "SELECT span FROM metrics") == []


# Kinds of failures.


async def test_failures_of_one_class_from_one_place_are_one_kind(store: Store) -> None:
    jobs = [running_job(number) for number in range(1, 5)]
    await store.insert(jobs)
    first = AttemptError("ValueError", "one", None, "shop:send")
    await store.settle([settled(claimed_job(1), RetryLater(5.0, first))])
    again = AttemptError("ValueError", "two", None, "shop:send")
    elsewhere = AttemptError("ValueError", "three", None, "shop:pay")
    await store.settle(
        [
            settled(claimed_job(2), Failed("x", again)),
            settled(claimed_job(3), Failed("y", elsewhere)),
        ]
    )
    await store.settle([settled(claimed_job(4), Succeeded("null"))])
    found = {group.place: group for group in await store.views.groups(10, None)}
    assert {place: group.count for place, group in found.items()} == {
        "shop:send": 2,
        "shop:pay": 1,
    }
    assert (found["shop:send"].message, found["shop:send"].sample) == ("two", job_id(2))
    assert found["shop:send"].task == "shop:send"


async def test_an_outcome_that_is_not_ours_counts_no_failure(store: Store) -> None:
    await store.insert([running_job(1)])
    error = AttemptError("ValueError", "one", None, "shop:send")
    late = settled(claimed_job(1), Failed("x", error))._replace(number=7)
    assert await store.settle([late]) == {}
    assert await store.views.groups(10, None) == []


async def test_a_kind_of_failures_is_forgotten_when_no_job_is_of_it(store: Store) -> None:
    await store.insert([running_job(1)])
    error = AttemptError("ValueError", "one", None, "shop:send")
    await store.settle([settled(claimed_job(1), Failed("x", error))])
    await store.steering.tidy(NOW + 100, 10.0)
    assert len(await store.views.groups(10, None)) == 1
    await store.steering.delete([job_id(1)], None)
    await store.steering.tidy(NOW + 100, 200.0)
    assert len(await store.views.groups(10, None)) == 1
    await store.steering.tidy(NOW + 100, 10.0)
    assert await store.views.groups(10, None) == []
