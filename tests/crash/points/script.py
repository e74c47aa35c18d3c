"""One process's life, in which every transition of the store happens, one after the other.

What lives here: the steps, as a worker and a client do them, with a line for each answer. What does
not: killing it (`killing.py`), and what must hold afterwards. Run in forked children.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from embedded_tasks.clock import SystemClock
from embedded_tasks.config import Retention
from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    ClaimedJob,
    Failed,
    NewJob,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.processes import ProcessFile, WritersLock, check_folder, processes_folder
from embedded_tasks.recovery import Recoverer
from embedded_tasks.settling import Times, settlement
from embedded_tasks.store import Claim, Store, StoreSettings, checkpoint
from embedded_tasks.store.callers import Operation
from tests.crash.old_release import make_old_file
from tests.crash.points.jobs import CLAIMED, OTHER, say
from tests.crash.points.operating import Operating

__all__ = ["Script", "Turn"]

ERROR = AttemptError("ValueError", "bad")
KEEP = Retention(cancelled=1.0)

Boundary = Callable[[str], None]
"""Told of each place at which the process may be killed."""


class Turn:
    """The writers' lock, whose taking and giving back are places too.

    Args:
        lock: The lock.
        boundary: Told before a transaction begins, and after it has ended.
    """

    def __init__(self, lock: WritersLock, boundary: Boundary) -> None:
        self._lock = lock
        self._boundary = boundary

    def acquire(self) -> None:
        self._boundary("turn")
        self._lock.acquire()

    def release(self) -> None:
        # The transaction has ended; nobody was told yet.
        self._boundary("done")
        self._lock.release()

    def acquire_within(self, seconds: float) -> None:
        self.acquire()

    def holders(self) -> str:
        return ""


class Script:
    """The process, its store, and what it was given.

    Args:
        path: The database, which is not there yet.
        boundary: Told of each place.
    """

    store: Store
    file: ProcessFile

    def __init__(self, path: Path, boundary: Boundary) -> None:
        self.path = path
        self.boundary = boundary
        self.me = uuid4().hex
        self.now = time.time()
        self.keys: dict[str, str] = {}
        self.slots: dict[str, int] = {}
        check_folder(path)
        self.folder = processes_folder(path)
        self.lock = WritersLock(self.folder)

    async def live(self) -> None:
        """Do all, in order; each step's name is the context of its boundaries."""
        steps = (
            self.open, self.enqueue, self.reserve, self.give_back, self.settle, self.cancel,
            self.retry, self.expire, self.prune, self.know, self.withdraw, self.recover,
            self.suspect, self.operate, self.put_clock_back, self.copy_back, self.close,
        )  # fmt: skip  # in order
        for step in steps:
            self.boundary(f"step {step.__name__}")
            await step()

    # What a client and a worker do.

    def job(self, key: str, task: str = CLAIMED, **changes: Any) -> NewJob:
        """Return a job; keys with an "f" fail if their process dies, the others run again."""
        id = str(uuid4())
        self.keys[id] = key
        on_crash = "fail" if "f" in key else "retry"
        job = NewJob(id, task, f'[1,["{key}"],{{}}]', self.now, self.now, on_crash=on_crash)
        return job._replace(**changes)

    async def put(self, *jobs: NewJob) -> None:
        await self.store.insert(jobs)
        for job in jobs:
            say("accepted", self.keys[job.id])

    def start(self, id: str, attempt: int = 1, file: ProcessFile | None = None) -> None:
        """Begin an attempt, as far as others can see it."""
        self.slots[id] = (file or self.file).mark(UUID(id).bytes, attempt)
        say("started", self.keys[id])

    async def claim(
        self,
        limit: int,
        *,
        suspects: bool = False,
        owner: str | None = None,
        file: ProcessFile | None = None,
    ) -> list[ClaimedJob]:
        """Take jobs and start them; by default in this process."""
        names = await self.store.read.task_names()
        numbers = [number for number, name in names.items() if name == CLAIMED]
        seen = max(names, default=0)
        wanted = [(numbers, limit)]
        asked = Claim(owner or self.me, time.time(), wanted, names, seen, suspects)
        jobs = (await self.store.claim(asked)).jobs
        assert len(jobs) == limit
        for job in jobs:
            self.start(job.id, job.attempt, file)
        return jobs

    async def end(self, job: ClaimedJob, outcome: Outcome) -> None:
        times = Times(self.now, self.now)
        row = settlement(job, self.me, outcome, times, KEEP)
        key, word = self.keys[job.id], str(row.state)
        say(f"settling-{word}", key)
        assert job.id in await self.store.settle([row])
        say(f"settled-{word}", key)
        self.file.clear(self.slots.pop(job.id))

    # The steps.

    async def open(self) -> None:
        """Bring an old release's file up to date, and appear in it."""
        self.file = ProcessFile.create(self.folder, self.me)
        make_old_file(self.path, CLAIMED, "old-f", self.now)
        say("accepted", "old-f")
        settings = StoreSettings(
            str(self.path), synchronous="OFF", keep_expired=1.0, keep_cancelled=1.0
        )
        self.store = await Store.open(settings, Turn(self.lock, self.boundary))
        await self.store.add_process(self.me, 1, self.now, runs_jobs=True)

    async def enqueue(self) -> None:
        await self.put(self.job("plain"))
        await self.put(self.job("two"), self.job("two-f"))

    async def reserve(self) -> None:
        """A request with three jobs, of which the first runs at once."""
        mine: dict[str, Any] = {"owner": self.me, "leads": True}
        first = self.job("first-f", attempt=1, **mine)
        second = self.job("second-f", after=first.id, **mine)
        third = self.job("third", after=second.id, owner=self.me)
        await self.put(first, second, third)
        self.start(first.id)
        await self.end(ClaimedJob(first.id, CLAIMED, 1, first.args, leads=True), Succeeded(None))
        assert await self.store.begin([second.id], self.me, self.now)
        self.start(second.id)
        await self.end(
            ClaimedJob(second.id, CLAIMED, 1, second.args, leads=True), Failed("bad", ERROR)
        )
        await self.store.release([third.id], self.me, self.now)

    async def give_back(self) -> None:
        """Jobs that never started; of one, somebody has asked that it be cancelled."""
        plain = self.job("back-f", attempt=1, owner=self.me)
        doomed = self.job("doomed", attempt=1, owner=self.me)
        await self.put(plain, doomed)
        say("cancelling", "doomed")
        assert (await self.store.cancel(doomed.id, "no need", self.now))[0] == "requested"
        assert await self.store.release([plain.id, doomed.id], self.me, self.now) == [doomed.id]
        say("cancelled", "doomed")

    async def settle(self) -> None:
        """Every outcome that leads somewhere else."""
        outcomes: list[Outcome] = [
            Succeeded("[1,1]"),
            RetryLater(0.0, ERROR),
            Snoozed(0.0, "not now"),
            Failed("bad", ERROR),
        ]
        for job, outcome in zip(await self.claim(4), outcomes, strict=True):
            await self.end(job, outcome)
        for job in await self.claim(3):
            await self.end(job, Succeeded(None))

    async def cancel(self) -> None:
        waiting, running = self.job("waiting", leads=True), self.job("running", priority=9)
        await self.put(waiting, running)
        say("cancelling", "waiting")
        assert (await self.store.cancel(waiting.id, "no need", self.now))[0] == "cancelled"
        say("cancelled", "waiting")
        (job,) = await self.claim(1)
        say("cancelling", "running")
        assert (await self.store.cancel(job.id, "no need", self.now))[0] == "requested"
        await self.end(job, Cancelled("no need"))
        say("cancelled", "running")

    async def retry(self) -> None:
        """By hand: of one that has succeeded, and of one that has failed."""
        ends: dict[str, Outcome] = {"good": Succeeded(None), "bad": Failed("bad", ERROR)}
        for priority, (key, outcome) in enumerate(ends.items(), 10):
            await self.put(self.job(key, priority=priority))
            (job,) = await self.claim(1)
            await self.end(job, outcome)
            say("retrying", key)
            assert await self.store.retry(job.id, self.now)
            say("retried", key)

    async def expire(self) -> None:
        say("expiring", "late")
        late = self.job("late", start_by=self.now - 1, leads=True)
        await self.put(late)
        assert await self.store.expire(self.now) == [late.id]

    async def prune(self) -> None:
        """What was cancelled or has expired is removed when its time of keeping is over."""
        assert await self.store.prune(self.now + 10) == 4

    async def know(self) -> None:
        """A name that this process does not know: held as it waits, held as it comes, let go."""
        await self.put(self.job("unknown-1", OTHER, leads=True))
        names = await self.store.read.task_names()
        tasks = [number for number, name in names.items() if name == OTHER]
        assert len(await self.store.hold_unknown(self.me, tasks)) == 1
        await self.put(self.job("unknown-2", OTHER), self.job("unknown-3", OTHER))
        assert len(await self.store.unhold(tasks)) == 3

    async def withdraw(self) -> None:
        """Jobs whose client was told that storing them took too long."""
        job = self.job("withdrawn", priority=-9)
        await self.store.insert([job])
        jobs = self.store._jobs
        await self.store.writer.submit(Operation(jobs.withdraw, [job]))
        say("withdrawn", "withdrawn")

    async def recover(self) -> None:
        """A sibling has died: of its jobs some had started; one of them is to be cancelled."""
        dead, file = await self.sibling()
        running: dict[str, Any] = {
            "attempt": 1,
            "owner": dead,
            "leads": True,
        }
        began = [self.job(key, **running) for key in ("began", "began-f", "ending")]
        rest = [self.job("unbegun-f", **running), self.job("reserved", owner=dead)]
        await self.put(*began, *rest)
        for job in began:
            file.mark(UUID(job.id).bytes, 1)
            say("started", self.keys[job.id])
        say("cancelling", "ending")
        await self.store.cancel(began[2].id, "no need", self.now)
        await self.bury(dead, file)

    async def sibling(self) -> tuple[str, ProcessFile]:
        """Another process comes."""
        id = uuid4().hex
        file = ProcessFile.create(self.folder, id)
        await self.store.add_process(id, 2, self.now, runs_jobs=True)
        return id, file

    async def bury(self, dead: str, file: ProcessFile) -> None:
        """It goes, and this one puts back what it leaves."""
        file.close(remove=False)
        recoverer = Recoverer(
            self.store,
            self.folder,
            self.me,
            SystemClock(),
            retention=KEEP,
            observe=lambda event: None,
        )
        assert (await recoverer.recover_all()).processes == [dead]

    async def suspect(self) -> None:
        """A job whose process died twice runs alone, and is acquitted."""
        await self.put(self.job("suspect", priority=99))
        for _ in range(2):
            dead, file = await self.sibling()
            (job,) = await self.claim(1, owner=dead, file=file)
            await self.bury(dead, file)
        (job,) = await self.claim(1, suspects=True)
        assert job.crashes == 2
        await self.store.acquit(job.id, self.me)
        await self.end(job, Succeeded(None))

    async def operate(self) -> None:
        """What operators do, and what jobs say of themselves."""
        operator = Operating(self.store, self.now, self.put)
        await operator.say_facts()
        job = await operator.pause(
            self.job("beside", priority=100, belongs_to="somebody", tags='["blue"]'), self.claim
        )
        await operator.note(job)
        await self.end(job, Succeeded(None))
        await operator.hurry(self.job("hurried", due_at=self.now - 1))
        await operator.delete(self.job("deleted", leads=True), "deleted")

    async def put_clock_back(self) -> None:
        """By an hour, as the next claim notices."""
        await self.put(self.job("timely"))
        await self.store.claim(Claim(self.me, self.now - 3600, [([1], 0)], {}, 0, False))

    async def copy_back(self) -> None:
        """Checkpoints: after a commit, and one that cuts the WAL."""
        every = checkpoint.Checkpointer.after_commit

        def at_once(self: checkpoint.Checkpointer, connection: sqlite3.Connection) -> None:
            self._since = self._every
            every(self, connection)

        checkpoint.Checkpointer.after_commit = at_once  # type: ignore[method-assign]  # in this child
        await self.put(self.job("copied-1"))
        checkpoint._LARGE_WAL = 0
        await self.put(self.job("copied-2"))

    async def close(self) -> None:
        """Give back what is left, and go."""
        kept = self.job("kept-f", owner=self.me)
        await self.put(kept)
        await self.store.release([kept.id], self.me, self.now)
        assert await self.store.remove_process(self.me)
        await self.store.close()
        self.file.close()
        sys.stderr.flush()
