"""What becomes of the jobs of a process that died, by what it had started and what they want.

What lives here: the decisions of `embedded_tasks/recovery.py`, with real process files. What does
not: real deaths (`tests/crash`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from embedded_tasks.config import Retention
from embedded_tasks.events import EventName
from embedded_tasks.job import MAX_CRASHES, SUSPECT_AFTER, TRANSITIONS, JobRecord, JobState
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT, ProcessFile, list_processes
from embedded_tasks.processes.layout import lock_path
from embedded_tasks.recovery import Recoverer, RecoveryReport
from embedded_tasks.store import Store
from tests.support.clock import FakeClock
from tests.support.events import Events
from tests.support.jobs import ME, NOW, OTHER, job_id, new_job, running_job
from tests.support.stores import claim_all, opened, record, write

pytestmark = pytest.mark.anyio

DEAD = OTHER


class Scene:
    """A process that lives, one that will have died, and a store between them."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.clock = FakeClock(NOW)
        self.events = Events()
        self.file = ProcessFile.create(folder, DEAD)
        self.recoverer = Recoverer(
            store, folder, ME, self.clock, retention=Retention(failed=77), observe=self.events
        )

    async def run(self, number: int, *, crashes: int = 0, flags: int = 0, **job: Any) -> None:
        """Let the process start an attempt."""
        values = {"owner": DEAD, "attempt": crashes + 1} | job
        await self.store.insert([running_job(number, **values)])
        await write(
            self.store, f"UPDATE jobs SET crashes = {crashes} WHERE id = '{job_id(number)}'"
        )
        mark = self.file.mark(UUID(job_id(number)).bytes, crashes + 1)
        self.file.annotate(mark, flags)

    async def die(self) -> RecoveryReport:
        """Let the process die, and recover it."""
        self.file.close(remove=False)
        return await self.recoverer.recover_all()

    async def job(self, number: int = 1) -> JobRecord:
        return await record(self.store, number)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened() as store:
        await store.add_process(ME, 1, NOW, runs_jobs=True)
        await store.add_process(DEAD, 2, NOW, runs_jobs=True)
        scene = Scene(store, tmp_path)
        yield scene
        scene.file.close(remove=False)


async def test_a_living_process_is_not_robbed(scene: Scene) -> None:
    await scene.run(1)
    report = await scene.recoverer.recover_all()
    assert report == RecoveryReport()
    assert (await scene.job()).owner == DEAD


async def test_what_had_not_started_goes_back_uncharged_and_untold(scene: Scene) -> None:
    await scene.store.insert(
        [running_job(1, owner=DEAD), new_job(2, owner=DEAD, after=job_id(1), on_crash="fail")]
    )
    report = await scene.die()
    assert (report.processes, report.recovered) == ([DEAD], 2)
    for number in (1, 2):
        job = await scene.job(number)
        assert (job.state, job.attempt, job.crashes, job.attempts) == ("queued", 0, 0, ())
    assert scene.events.seen == []


async def test_what_had_started_is_tried_again_and_the_crash_is_kept(scene: Scene) -> None:
    await scene.run(1)
    scene.clock.advance(5)
    report = await scene.die()
    assert (report.recovered, report.held, report.failed) == (1, [], [])
    job = await scene.job()
    assert (job.state, job.crashes, job.failures, job.due_at) == ("queued", 1, 0, NOW)
    (attempt,) = job.attempts
    assert (attempt.number, attempt.outcome, attempt.ended_at) == (1, "crashed", NOW + 5)
    assert attempt.error is not None
    assert attempt.error.type == "ProcessDied"
    assert "died while it ran" in attempt.error.message
    (event,) = scene.events.seen
    assert (event.name, event.job_id, event.attempt) == (EventName.CRASHED, job_id(1), 1)


@pytest.mark.parametrize(("on_crash", "state"), [("hold", "held"), ("fail", "failed")])
async def test_what_had_started_is_held_or_failed_where_the_policy_says_so(
    scene: Scene, on_crash: str, state: str
) -> None:
    await scene.run(1, on_crash=on_crash)
    report = await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes) == (state, 1)
    assert "died while it ran" in (job.reason or "")
    assert (report.held, report.failed) == (
        ([job_id(1)], []) if state == "held" else ([], [job_id(1)])
    )
    assert await scene.store.prune(NOW + 77) == (1 if state == "failed" else 0)


async def test_an_older_attempt_s_mark_does_not_count(scene: Scene) -> None:
    await scene.run(1)
    await write(scene.store, "UPDATE jobs SET attempt = 2")
    await scene.die()
    job = await scene.job()
    assert (job.state, job.attempt, job.crashes) == ("queued", 1, 0)


# Suspects.


async def test_a_job_that_saw_too_many_crashes_is_held(scene: Scene) -> None:
    await scene.run(1, crashes=MAX_CRASHES - 1)
    report = await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes) == ("held", MAX_CRASHES)
    assert f"the {MAX_CRASHES}th time" in (job.reason or "")
    assert report.held == [job_id(1)]


async def test_a_death_is_laid_on_the_suspect_and_not_on_who_ran_beside_it(scene: Scene) -> None:
    await scene.run(1, crashes=SUSPECT_AFTER)
    await scene.run(2)
    await scene.run(3, crashes=1)
    await scene.die()
    assert [(await scene.job(n)).crashes for n in (1, 2, 3)] == [SUSPECT_AFTER + 1, 0, 1]
    assert [(await scene.job(n)).state for n in (1, 2, 3)] == ["queued"] * 3


async def test_without_a_suspect_everybody_who_ran_is_charged(scene: Scene) -> None:
    await scene.run(1)
    await scene.run(2, crashes=1)
    await scene.die()
    assert [(await scene.job(n)).crashes for n in (1, 2)] == [1, 2]


async def test_one_poison_job_costs_four_deaths_at_most(tmp_path: Path) -> None:
    async with opened() as store:
        await store.insert([new_job(1)])
        deaths = 0
        while jobs := await claim_all(store, owner=DEAD):
            scene = Scene(store, tmp_path)
            scene.file.mark(UUID(jobs[0].id).bytes, jobs[0].attempt)
            await scene.die()
            deaths += 1
        assert deaths == MAX_CRASHES
        assert (await record(store, 1)).state is JobState.HELD


# Shutdowns and timeouts.


async def test_what_a_shutdown_interrupted_is_refunded(scene: Scene) -> None:
    await scene.run(1, flags=INTERRUPTED)
    await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes, job.failures) == ("queued", 0, 0)
    assert [item.outcome for item in job.attempts] == ["interrupted"]
    assert scene.events.seen == []


@pytest.mark.parametrize(("on_crash", "state"), [("hold", "held"), ("fail", "failed")])
async def test_what_a_shutdown_cut_off_follows_its_policy_and_is_no_crash(
    scene: Scene, on_crash: str, state: str
) -> None:
    await scene.run(1, flags=INTERRUPTED, on_crash=on_crash)
    await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes) == (state, 0)


@pytest.mark.parametrize("flags", [TIMED_OUT, TIMED_OUT | INTERRUPTED])
@pytest.mark.parametrize("on_crash", ["retry", "hold", "fail"])
async def test_an_attempt_that_had_timed_out_is_a_failure_and_its_retry_is_made(
    scene: Scene, flags: int, on_crash: str
) -> None:
    await scene.run(1, flags=flags, on_crash=on_crash)
    await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes, job.failures) == ("queued", 0, 1)
    (attempt,) = job.attempts
    assert attempt.error is not None
    assert attempt.error.type == "TimeoutError"


# What cannot be known.


def another_boot(scene: Scene) -> None:
    path = lock_path(scene.folder, DEAD)
    scene.file.close(remove=False)
    path.unlink()
    scene.file = ProcessFile.create(scene.folder, DEAD, boot_id="another boot")


def unreadable(scene: Scene) -> None:
    path = lock_path(scene.folder, DEAD)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])


def gone(scene: Scene) -> None:
    lock_path(scene.folder, DEAD).unlink()


LOST = pytest.mark.parametrize("lose", [another_boot, unreadable, gone])


@LOST
@pytest.mark.parametrize(
    ("on_crash", "state"), [("retry", "queued"), ("hold", "held"), ("fail", "failed")]
)
@pytest.mark.parametrize("marked", [True, False])
async def test_where_marks_are_lost_a_job_may_have_started_and_is_nobody_s_suspect(
    scene: Scene, lose: Callable[[Scene], None], on_crash: str, state: str, marked: bool
) -> None:
    if marked and lose is not another_boot:
        await scene.run(1, on_crash=on_crash, crashes=MAX_CRASHES - 1)
    else:
        await scene.store.insert(
            [running_job(1, owner=DEAD, on_crash=on_crash, attempt=MAX_CRASHES)]
        )
        await write(scene.store, f"UPDATE jobs SET crashes = {MAX_CRASHES - 1}")
    lose(scene)
    await scene.die()
    job = await scene.job()
    assert (job.state, job.crashes, job.failures) == (state, MAX_CRASHES - 1, 0)
    (attempt,) = job.attempts
    assert attempt.outcome == "crashed"
    assert attempt.error is not None
    assert "may have started" in attempt.error.message


@LOST
async def test_where_marks_are_lost_a_reserved_job_has_still_not_started(
    scene: Scene, lose: Callable[[Scene], None]
) -> None:
    await scene.store.insert([new_job(1, owner=DEAD, on_crash="fail")])
    lose(scene)
    await scene.die()
    assert (await scene.job()).state is JobState.QUEUED


# Followers.


@pytest.mark.parametrize(("on_crash", "free"), [("retry", [1]), ("hold", [2]), ("fail", [2])])
async def test_a_follower_waits_for_a_leader_that_is_tried_again(
    scene: Scene, on_crash: str, free: list[int]
) -> None:
    await scene.run(1, leads=True, on_crash=on_crash)
    await scene.store.insert([new_job(2, owner=DEAD, after=job_id(1))])
    await scene.die()
    assert [job.id for job in await claim_all(scene.store)] == [job_id(n) for n in free]


async def test_a_follower_does_not_wait_for_a_leader_whose_first_attempt_had_timed_out(
    scene: Scene,
) -> None:
    await scene.run(1, leads=True, flags=TIMED_OUT)
    await scene.store.insert([new_job(2, owner=DEAD, after=job_id(1))])
    await scene.die()
    assert len(await claim_all(scene.store)) == 2


# Processes.


async def test_the_dead_are_forgotten_and_found_once(scene: Scene) -> None:
    await scene.run(1)
    await scene.die()
    assert list_processes(scene.folder) == []
    assert await scene.store.read.owners() == [ME]
    assert await scene.recoverer.recover_all() == RecoveryReport()


async def test_a_process_that_owned_nothing_is_forgotten_too(scene: Scene) -> None:
    report = await scene.die()
    assert (report.processes, report.recovered) == ([DEAD], 0)
    assert await scene.store.read.owners() == [ME]


async def test_this_process_never_recovers_itself(scene: Scene) -> None:
    await scene.store.insert([running_job(1, owner=ME)])
    await scene.recoverer.recover_all()
    assert (await scene.job()).owner == ME


async def test_recoveries_make_exactly_the_transitions_of_recover(scene: Scene) -> None:
    await scene.run(1)
    await scene.run(2, on_crash="hold")
    await scene.run(3, on_crash="fail")
    await scene.run(4, flags=INTERRUPTED)
    await scene.run(5, flags=TIMED_OUT)
    await scene.run(6, crashes=1)
    await scene.die()
    made = {(JobState.RUNNING, (await scene.job(n)).state) for n in range(1, 7)}
    assert made == TRANSITIONS["recover"]
