"""The store against a small model of its promises: random orders, random crashes.

Not here: the model (`lifecycle_model.py`), one query's words and guards (tests/store_contract).
Called by pytest: once over a file that three processes share, once over a store in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embedded_tasks.job import (
    FINISHED,
    SUSPECT_AFTER,
    TRANSITIONS,
    ClaimedJob,
    JobState,
    Outcome,
    Settlement,
    Succeeded,
)
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT
from embedded_tasks.recovery import Recoverer
from embedded_tasks.settling import Times, settlement
from embedded_tasks.store import Claim
from tests.properties.lifecycle_bench import (
    RETENTION,
    TASKS,
    Bench,
    Plan,
    Seat,
    limits,
    outcomes,
    places,
    plans,
    some_tasks,
)
from tests.properties.lifecycle_model import COLUMNS, Row
from tests.support.jobs import job_id
from tests.support.stores import rows

SELECT = """
    SELECT jobs.id, tasks.name, state, owner, attempt, priority, due_at, failures, crashes, snoozes,
        after, expires_at, started_at, finished_at, prune_at, held_for, result,
        cancel_requested AND state IN ('queued', 'running'),
        (SELECT coalesce(group_concat(entry, ','), '') FROM (
            SELECT number || ':' || outcome AS entry FROM attempts
            WHERE job = jobs.seq ORDER BY number
        ))
    FROM jobs JOIN tasks ON tasks.id = jobs.task ORDER BY seq
"""


class StoreMachine(Bench):
    """Does everything twice: to the store and to the model."""

    def _draw(self, data: st.DataObject, among: Sequence[Row]) -> Row:
        return self.model.rows[data.draw(st.sampled_from([row.id for row in among]))]

    # In.

    @initialize(plans=st.lists(plans, max_size=3), reserved=st.lists(plans, max_size=3))
    def begin_with(self, plans: list[Plan], reserved: list[Plan]) -> None:
        self.start()
        if plans:
            self.enqueue(0, plans)
        if reserved:
            self.reserve(0, reserved, True)

    @rule(seat=places, plans=st.lists(plans, min_size=1, max_size=3))
    def enqueue(self, seat: int, plans: list[Plan]) -> None:
        jobs = self._new_jobs(plans, None, False)
        self.run(self.seats[seat].store.insert(jobs))
        self.model.insert(jobs)
        self._accept(jobs)

    @rule(
        seat=places,
        plans=st.lists(plans, min_size=1, max_size=3),
        begun=st.sampled_from([True, True, False]),
    )
    def reserve(self, seat: int, plans: list[Plan], begun: bool) -> None:
        jobs = self._new_jobs(plans, self.seats[seat].id, begun)
        self.run(self.seats[seat].store.insert(jobs))
        self.model.insert(jobs)
        self._accept(jobs)

    @rule(
        seats=st.permutations(range(3)),
        plans=st.lists(plans, min_size=1, max_size=2),
        reserved=st.booleans(),
        taken=st.booleans(),
    )
    def give_up_insert(
        self, seats: list[int], plans: list[Plan], reserved: bool, taken: bool
    ) -> None:
        """Its client goes after the commit; between that and the undoing a sibling may claim."""
        seat, sibling = self.seats[seats[0]], self.seats[seats[1]]
        jobs = self._new_jobs(plans, seat.id if reserved else None, begun=True)
        self.queries |= {"insert", "hold_new"}

        async def work() -> None:
            seat.gate.shut(after=True)
            insert = asyncio.create_task(seat.store.insert(jobs))
            await seat.gate.reached.wait()
            self.model.insert(jobs)
            if taken and sibling.store is not seat.store:
                await self._claim(sibling, [self.known(sibling.id)], [2])
            insert.cancel()
            seat.gate.let_go()
            with contextlib.suppress(asyncio.CancelledError):
                await insert
            await seat.store.acquit("nobody", seat.id)  # written with the undoing, or after it

        self.run(work())
        self.model.withdraw(jobs)
        self._accept([job for job in jobs if job.id in self.model.rows])

    # To a process.

    async def _claim(
        self, seat: Seat, groups: Sequence[Sequence[str]], limits: Sequence[int]
    ) -> list[str]:
        names = await seat.store.read.task_names()
        numbers = {name: number for number, name in names.items()}
        wanted = [(tasks, limit) for tasks, limit in zip(groups, limits, strict=True)]
        has_suspect = any(row.owner == seat.id and row.is_suspect for row in self.running())
        claim = Claim(
            seat.id,
            self.now,
            [([numbers[task] for task in tasks if task in numbers], n) for tasks, n in wanted],
            names,
            max(names, default=0),
            suspects=not has_suspect,
        )
        result = await seat.store.claim(claim)
        expired = self.model.expire(self.now)
        expected, wake_at = self.model.claim(seat.id, self.now, wanted, not has_suspect)
        assert set(result.expired) == expired
        assert [job.id for job in result.jobs] == expected
        assert result.wake_at == wake_at
        assert wake_at is None or wake_at > self.now  # or it would ask again and again
        for job in result.jobs:
            row = self.model.rows[job.id]
            assert (job.attempt, job.failures, job.crashes, job.snoozes, job.leads) == (
                row.attempt, row.failures, row.crashes, row.snoozes, row.leads,
            )  # fmt: skip  # one after another
            self.in_hand[job.id] = job
        self.queries |= {"claim", "expire"}
        await self._settle_late(seat, Succeeded("[1,2]"))
        return expected

    @rule(seat=places, limits=limits, split=some_tasks)
    def claim(self, seat: int, limits: list[int], split: set[str]) -> None:
        known = self.known(self.seats[seat].id)
        groups = [[t for t in known if t in split], [t for t in known if t not in split]]
        self.run(self._claim(self.seats[seat], groups[: len(limits)], limits))

    def _next_in_line(self) -> list[Row]:
        living = {seat.id for seat in self.seats}
        waiting = [row for row in self.rows_in(JobState.QUEUED) if row.owner in living]
        return [row for row in waiting if row.after is None]

    @precondition(lambda self: self._next_in_line())
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        row = self._draw(data, self._next_in_line())
        seat = self.seat_of(row.owner)
        assert self.run(seat.store.begin([row.id], seat.id, self.now)) == {row.id}
        self.model.begin(row.id, self.now)
        self.queries.add("begin")

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), seat=places)
    def release(self, data: st.DataObject, seat: int) -> None:
        """Of the ids that are given, those of others must not change."""
        process = self.seats[seat].id
        ids = data.draw(st.lists(st.sampled_from(list(self.model.rows)), min_size=1, unique=True))
        cancelled = self.run(self.seats[seat].store.release(ids, process, self.now))
        assert set(cancelled) == self.model.release(ids, process, self.now)
        self.queries |= {"release", "cancel_waiting"}

    @precondition(lambda self: self.running())
    @rule(data=st.data(), outcome=outcomes, again=outcomes, busy=st.booleans())
    def settle(self, data: st.DataObject, outcome: Outcome, again: Outcome, busy: bool) -> None:
        row = self._draw(data, self.running())
        job, owner = self.in_hand[row.id], row.owner
        assert owner is not None
        assert self._settle(job, owner, outcome) == {
            row.id: self.model.settle(row.id, outcome, self.now)
        }
        self.past.append((job, owner))
        self.queries |= {"settle", "cancel_waiting"}
        assert self._settle(job, owner, again) == {}
        if busy:  # it asks for more, and may get the same job again
            self.run(self._claim(self.seat_of(owner), [self.known(owner)], [3]))

    def _over(self) -> list[tuple[ClaimedJob, str]]:
        """Attempts that are settled or recovered."""
        return [(job, owner) for job, owner in self.past if owner not in self.deaths]

    @precondition(lambda self: self._over())
    @rule(outcome=outcomes)
    def settle_late(self, outcome: Outcome) -> None:
        self.run(self._settle_late(self.seats[0], outcome))

    async def _settle_late(self, seat: Seat, outcome: Outcome) -> None:
        """Nothing may change."""
        late = [self._settlement(job, owner, outcome) for job, owner in self._over()]
        assert await seat.store.settle(late) == {}

    def _settle(self, job: ClaimedJob, owner: str, outcome: Outcome) -> dict[str, bool]:
        return self.run(self.seats[0].store.settle([self._settlement(job, owner, outcome)]))

    def _settlement(self, job: ClaimedJob, owner: str, outcome: Outcome) -> Settlement:
        times = Times(self.started_at(job.id), self.now)
        return settlement(job, owner, outcome, times, RETENTION)

    def started_at(self, id: str) -> float:
        row = self.model.rows.get(id)
        return self.now if row is None or row.started_at is None else row.started_at

    # Deaths.

    @rule(
        data=st.data(),
        seat=places,
        readable=st.sampled_from([True, True, True, False]),
        same_boot=st.sampled_from([True, True, True, False]),
        busy=st.booleans(),
    )
    def crash(
        self, data: st.DataObject, seat: int, readable: bool, same_boot: bool, busy: bool
    ) -> None:
        if busy:
            self.run(self._claim(self.seats[seat], [self.known(self.seats[seat].id)], [3]))
        mine = [row.id for row in self.running() if row.owner == self.seats[seat].id]
        flags = st.sampled_from([None, 0, 0, 0, INTERRUPTED, TIMED_OUT])
        drawn = {id: data.draw(flags) for id in mine}
        marks = {id: flag for id, flag in drawn.items() if flag is not None}
        self._crash(self.seats[seat], marks, readable, same_boot)

    @precondition(lambda self: self.deaths)
    @rule(seat=places)
    def recover(self, seat: int) -> None:
        """Of all processes, the dead ones alone are recovered, each once."""
        finder = self.seats[seat]
        recoverer = Recoverer(
            finder.store, self.folder, finder.id, self.clock,
            retention=RETENTION, observe=lambda event: None,
        )  # fmt: skip  # the world, then the policy
        report = self.run(recoverer.recover_all())
        assert set(report.processes) == set(self.deaths)
        assert not report.undecided
        for process in sorted(self.deaths):
            self.model.recover(self.deaths.pop(process), self.now)
        self.queries |= {"release", "recover", "cancel_waiting"}

    @rule(seat=places, times=st.integers(1, 3), tasks=some_tasks)
    def poison(self, seat: int, times: int, tasks: set[str]) -> None:
        """The same kind of job kills one process after the other; the last one lives with it."""
        for _ in range(times):
            victim = self.seats[seat]
            groups = [[task for task in self.known(victim.id) if task in tasks]]
            taken = self.run(self._claim(victim, groups, [2]))
            self._crash(victim, dict.fromkeys(taken, 0), readable=True, same_boot=True)
            self.recover(0)
        groups = [[task] for task in self.known(self.seats[seat].id)]
        self.run(self._claim(self.seats[seat], groups, [1] * len(groups)))

    @rule(seat=places)
    def leave(self, seat: int) -> None:
        """Go in good order; who still owns a job cannot."""
        process = self.seats[seat]
        owns = any(row.owner == process.id for row in self.model.rows.values())
        assert self.run(process.store.remove_process(process.id)) != owns
        if not owns:
            process.file.close()
            self.seats.remove(process)
            del self.model.unknown[process.id]
            self.run(self._sit_down(process.store, process.gate))

    @precondition(lambda self: not self.in_memory)
    @rule()
    def close_and_open(self) -> None:
        """Everybody closes the file: the last one writes the log back."""
        for seat in self.seats:
            self.run(seat.store.close())
        for seat in self.seats:
            seat.store, seat.gate = self.run(self._open())

    # Beside.

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), seat=places)
    def cancel(self, data: st.DataObject, seat: int) -> None:
        id = data.draw(st.sampled_from([*self.model.rows, job_id(999)]))
        answer = self.run(self.seats[seat].store.cancel(id, "no need", self.now))
        assert answer == self.model.cancel(id, self.now)
        self.queries.add("cancel_waiting")

    @precondition(lambda self: self.rows_in(JobState.HELD, *FINISHED))
    @rule(data=st.data(), seat=places)
    def retry(self, data: st.DataObject, seat: int) -> None:
        id = self._draw(data, self.rows_in(JobState.HELD, *FINISHED)).id
        assert self.run(self.seats[seat].store.retry(id, self.now))
        assert self.model.retry(id, self.now)
        self.leader_of.pop(id, None)  # a retry by hand waits for nobody
        self.queries |= {"retry", "hold_new"}

    @precondition(lambda self: self.rows_in(JobState.QUEUED, JobState.RUNNING))
    @rule(data=st.data(), seat=places)
    def retry_too_early(self, data: st.DataObject, seat: int) -> None:
        row = self._draw(data, self.rows_in(JobState.QUEUED, JobState.RUNNING))
        assert not self.run(self.seats[seat].store.retry(row.id, self.now))

    def _go_to(self, times: Collection[float | None], seconds: float) -> None:
        """Move the clock to the next of these times, or just before it."""
        ahead = [time for time in times if time is not None and time > self.now]
        if ahead:
            self.clock.advance(max(min(ahead) + seconds - self.now, 0.0))

    @rule(seat=places, seconds=st.sampled_from([-1.0, 0.0, 0.0]))
    def expire(self, seat: int, seconds: float) -> None:
        self._go_to([row.expires_at for row in self.rows_in(JobState.QUEUED)], seconds)
        expired = self.run(self.seats[seat].store.expire(self.now))
        assert set(expired) == self.model.expire(self.now)
        self.queries.add("expire")

    @precondition(lambda self: self.rows_in(JobState.QUEUED))
    @rule(seconds=st.sampled_from([-1.0, 0.0]))
    def wait(self, seconds: float) -> None:
        self._go_to([row.due_at for row in self.rows_in(JobState.QUEUED)], seconds)

    @precondition(lambda self: self.rows_in(*FINISHED))
    @rule(seat=places, seconds=st.sampled_from([-1.0, 0.0]))
    def prune(self, seat: int, seconds: float) -> None:
        self._go_to([row.prune_at for row in self.rows_in(*FINISHED)], seconds)
        removed = self.run(self.seats[seat].store.prune(self.now))
        before = set(self.model.rows)
        assert removed == self.model.prune(self.now)
        self.accepted -= before - set(self.model.rows)

    def _numbers(self, tasks: Collection[str]) -> dict[str, int]:
        names = self.run(self.seats[0].store.read.task_names())
        return {name: number for number, name in names.items() if name in tasks}

    @rule(seats=st.sampled_from([[0], [1], [0, 1, 2]]), task=st.sampled_from(TASKS))
    def hold_unknown(self, seats: list[int], task: str) -> None:
        numbers = self._numbers([task])
        for seat in [self.seats[seat] for seat in seats]:
            held = self.run(seat.store.hold_unknown(seat.id, list(numbers.values())))
            assert set(held) == self.model.hold_unknown(seat.id, numbers)
        self.queries.add("hold_unknown")

    @rule(seat=places, tasks=some_tasks)
    def unhold(self, seat: int, tasks: set[str]) -> None:
        """Its code has what was missing: also after a deploy, so it need not have said so."""
        numbers = self._numbers(tasks)
        back = self.run(self.seats[seat].store.unhold(list(numbers.values())))
        assert back == self.model.unhold(numbers)
        self.queries.add("unhold")

    @precondition(lambda self: self.running())
    @rule(data=st.data(), by_owner=st.booleans())
    def acquit(self, data: st.DataObject, by_owner: bool) -> None:
        suspects = [row for row in self.running() if row.is_suspect]
        row = self._draw(data, suspects or self.running())
        for seat in self.seats:
            if by_owner or seat.id != row.owner:
                self.run(seat.store.acquit(row.id, seat.id))
                self.model.acquit(row.id, seat.id)

    # What holds after each rule.

    @invariant()
    def keeps_its_promises(self) -> None:
        if not self.seats:
            return
        found = self.run(rows(self.seats[0].store, SELECT))
        wanted = [row.shown() for row in self.model.rows.values()]
        assert found == wanted, set(found) ^ set(wanted)
        jobs: dict[str, dict[str, Any]] = {
            row[0]: dict(zip(COLUMNS, row, strict=True)) for row in found
        }
        self._check_transitions({id: JobState(job["state"]) for id, job in jobs.items()})
        assert set(jobs) == self.accepted
        for job in jobs.values():
            assert (job["state"] in FINISHED) == (job["finished_at"] is not None)
            assert (job["state"] in FINISHED) == (job["prune_at"] is not None)
            if job["after"] is not None:  # or it would wait for ever
                assert jobs[job["after"]]["state"] in ("queued", "running") or (
                    job["state"] in FINISHED
                )
        self._check_owners(jobs)
        self._check_followers(jobs)

    def _check_transitions(self, states: dict[str, JobState]) -> None:
        """Each change is a way along what the rules since the last look may do."""
        steps = {step for query in self.queries for step in TRANSITIONS[query]}
        for id, state in states.items():
            reached = {self.states.get(id)}
            if state in reached:
                continue
            for _ in JobState:
                reached |= {after for before, after in steps if before in reached}
            assert state in reached, f"{self.states.get(id)} -> {state} by {self.queries}"
        self.states = states
        self.queries = set()

    def _check_owners(self, jobs: dict[str, dict[str, Any]]) -> None:
        processes = {seat.id for seat in self.seats} | set(self.deaths)
        suspects = []
        for job in jobs.values():
            assert job["owner"] is None or job["owner"] in processes
            if job["state"] == "running" and job["crashes"] >= SUSPECT_AFTER:
                suspects.append(job["owner"])
        assert len(suspects) == len(set(suspects)), "two suspects in one process"

    def _check_followers(self, jobs: dict[str, dict[str, Any]]) -> None:
        """A leader's first attempt has ended; an interruption or a crash is no end."""
        for id in set(self.leader_of.values()):
            job = jobs.get(id)
            ends = job["history"].split(",") if job and job["history"] else []
            if (
                job is None
                or job["state"] in {*FINISHED, JobState.HELD}
                or any(not end.endswith((":interrupted", ":crashed")) for end in ends)
            ):
                self.first_ended.add(id)
        for id, leader in self.leader_of.items():
            if id in jobs and jobs[id]["state"] == "running":
                assert leader in self.first_ended


class FileMachine(StoreMachine):
    """Three connections to one file, as three processes have them."""


class MemoryMachine(StoreMachine):
    """One connection for all."""

    in_memory = True


CALM = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
QUICK = settings(max_examples=70, stateful_step_count=30, deadline=None, suppress_health_check=CALM)
SOAK = settings(QUICK, max_examples=400, stateful_step_count=60)

both = pytest.mark.parametrize("machine", [FileMachine, MemoryMachine])


@both
def test_the_store_does_what_its_model_does(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.slow
@both
def test_the_store_does_what_its_model_does_for_long(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(machine, settings=SOAK)
