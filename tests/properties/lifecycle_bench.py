"""The bench of the state machine: three processes, their store, their files and a clock.

What lives here: opening, dying and closing, and the choices that are drawn. What does not: rules
and promises (`test_state_machine.py`, which calls this), the model (`lifecycle_model.py`).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from embedded_tasks.config import Retention
from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    ClaimedJob,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    NewJob,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.processes import ProcessFile
from embedded_tasks.processes.layout import lock_path
from embedded_tasks.processes.records import HEADER_SIZE, encode_header
from embedded_tasks.store import Store, StoreSettings
from tests.properties.lifecycle_model import Death, Model, Row
from tests.support.clock import FakeClock
from tests.support.jobs import new_job
from tests.support.stores import Gate, rows

__all__ = [
    "RETENTION", "TASKS", "Bench", "Plan", "Seat", "limits", "outcomes", "places", "plans",
    "some_tasks",
]  # fmt: skip  # short names

RETENTION = Retention(succeeded=50, failed=100, cancelled=70, expired=90)
TASKS = ["shop:a", "shop:b"]
ERROR = AttemptError("ValueError", "bad")
delays = st.sampled_from([0.0, 5.0, 60.0])
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Succeeded("[1,1]")),
    st.builds(RetryLater, delays, st.just(ERROR)),
    st.builds(Snoozed, delays, st.just("not now")),
    st.just(Failed("bad", ERROR)),
    st.just(Cancelled("no need")),
    st.just(Expired("too late")),
    st.just(Interrupted()),
    st.sampled_from([Held("code", "arguments"), Held("code", "unknown_task")]),
)
places = st.integers(0, 2)
limits = st.lists(st.sampled_from([3, 2, 1, 0]), min_size=1, max_size=2)
some_tasks = st.sampled_from([set(TASKS), {TASKS[0]}, {TASKS[1]}, set()])
plans = st.fixed_dictionaries(
    {
        "task": st.sampled_from(TASKS),
        "priority": st.integers(-1, 1),
        "due": st.sampled_from([-20.0, 0.0, 0.0, 20.0]),
        "start_by": st.none() | st.sampled_from([10.0, 40.0]),
        "finish_by": st.none() | st.sampled_from([10.0, 40.0]),
        "on_crash": st.sampled_from(["retry", "retry", "hold", "fail"]),
    }
)
Plan = dict[str, Any]

T = TypeVar("T")


@dataclass(slots=True)
class Seat:
    """A process that lives: its id, its connection to the store, its locked file."""

    id: str
    store: Store
    gate: Gate
    file: ProcessFile


class Bench(RuleBasedStateMachine):
    """A store, a model of it, and who uses them."""

    in_memory = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="state-machine-"))
        self.path = ":memory:" if self.in_memory else str(self.folder / "tasks.db")
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.model = Model(RETENTION)
        self.seats: list[Seat] = []
        self.deaths: dict[str, Death] = {}
        self.in_hand: dict[str, ClaimedJob] = {}  # what the owner of a running job was given
        self.past: list[tuple[ClaimedJob, str]] = []  # attempts that are over
        self.jobs = self.processes = 0
        self.queries: set[str] = set()  # what the rules since the last look may have run
        self.accepted: set[str] = set()
        self.leader_of: dict[str, str] = {}
        self.first_ended: set[str] = set()
        self.states: dict[str, JobState] = {}

    # The bench.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def now(self) -> float:
        return self.clock.now()

    async def _open(self) -> tuple[Store, Gate]:
        gate = Gate()
        keep = {"keep_expired": 90.0, "keep_cancelled": 70.0}
        return await Store.open(StoreSettings(self.path, synchronous="OFF", **keep), gate), gate  # type: ignore[arg-type]  # only numbers are in it

    async def _sit_down(self, store: Store, gate: Gate) -> None:
        self.processes += 1
        id = f"{self.processes:032x}"
        await store.add_process(id, self.processes, self.now, runs_jobs=True)
        self.seats.append(Seat(id, store, gate, ProcessFile.create(self.folder, id)))
        self.model.unknown[id] = set()

    def start(self) -> None:
        store, gate = self.run(self._open())
        for number in range(3):
            if number and not self.in_memory:
                store, gate = self.run(self._open())
            self.run(self._sit_down(store, gate))

    def teardown(self) -> None:
        try:
            if self.seats:
                store = self.seats[0].store
                assert self.run(rows(store, "PRAGMA integrity_check")) == [("ok",)]
                assert self.run(rows(store, "PRAGMA foreign_key_check")) == []
        finally:
            for seat in self.seats:
                seat.file.close()
            for store in {seat.store for seat in self.seats}:
                self.run(store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def rows_in(self, *states: JobState) -> list[Row]:
        return [row for row in self.model.rows.values() if row.state in states]

    def running(self) -> list[Row]:
        """The running jobs of the living."""
        living = {seat.id for seat in self.seats}
        return [row for row in self.rows_in(JobState.RUNNING) if row.owner in living]

    def seat_of(self, process: str | None) -> Seat:
        return next(seat for seat in self.seats if seat.id == process)

    def known(self, process: str) -> list[str]:
        return [task for task in TASKS if task not in self.model.unknown[process]]

    # In.

    def _new_jobs(self, plans: Sequence[Plan], owner: str | None, begun: bool) -> list[NewJob]:
        """Plain jobs, or a request's: reserved, each behind the one before it."""
        jobs: list[NewJob] = []
        for place, plan in enumerate(plans):
            self.jobs += 1
            due = self.now + plan["due"]
            by = {
                name: None if plan[name] is None else due + plan[name]
                for name in ("start_by", "finish_by")
            }
            changes: dict[str, Any] = {
                "task": plan["task"], "priority": plan["priority"], "due_at": due,
                "on_crash": plan["on_crash"], "created_at": self.now, **by,
            }  # fmt: skip  # the plan, in absolute times
            if owner is not None:
                changes |= {"owner": owner, "due_at": self.now, "leads": place < len(plans) - 1}
                if place:
                    changes["after"] = jobs[-1].id
                elif begun:
                    changes["attempt"] = 1
            jobs.append(new_job(self.jobs, **changes))
        return jobs

    def _accept(self, jobs: Sequence[NewJob]) -> None:
        self.queries |= {"insert", "hold_new"}
        self.accepted |= {job.id for job in jobs}
        self.leader_of |= {job.id: job.after for job in jobs if job.after is not None}
        for job in jobs:
            self.in_hand[job.id] = ClaimedJob(job.id, job.task, 1, job.args, leads=bool(job.leads))

    def _crash(self, seat: Seat, marks: dict[str, int], readable: bool, same_boot: bool) -> None:
        """Die: the file stays, with its marks, and its lock is free."""
        for row in self.running():
            if row.owner == seat.id:
                self.past.append((self.in_hand[row.id], seat.id))
                if row.id in marks:
                    seat.file.annotate(
                        seat.file.mark(UUID(row.id).bytes, row.attempt), marks[row.id]
                    )
                elif row.attempt > 1:
                    seat.file.mark(UUID(row.id).bytes, row.attempt - 1)  # not cleared in time
        seat.file.close(remove=False)
        path = lock_path(self.folder, seat.id)
        if not same_boot:
            with path.open("r+b") as file:
                assert file.write(encode_header(1, "another boot")) == HEADER_SIZE
        if not readable:
            path.write_bytes(b"?" * 10)
        self.deaths[seat.id] = Death(seat.id, marks, readable, same_boot)
        self.seats.remove(seat)
        self.run(self._sit_down(seat.store, seat.gate))
