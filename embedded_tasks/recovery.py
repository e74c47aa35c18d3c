"""Putting back the jobs of processes that are dead, which their locks tell and nothing else.

What lives here: finding the dead, and what becomes of each of their jobs. What does not: locks and
files (`processes`). Called by the runner at start and when a sibling seems to have died.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from embedded_tasks.clock import Clock
from embedded_tasks.config import Retention
from embedded_tasks.events import EventName, JobEvent, Observer
from embedded_tasks.ids import id_bytes
from embedded_tasks.job import CUT_OFF, MAX_CRASHES, SUSPECT_AFTER, JobState
from embedded_tasks.processes import (
    INTERRUPTED,
    TIMED_OUT,
    Corpse,
    Death,
    examine,
    list_processes,
    probe,
    users,
)
from embedded_tasks.store import OwnedJob, Recovery, Store

__all__ = ["Recoverer", "RecoveryReport"]

_log = structlog.get_logger("embedded_tasks")


@dataclass(slots=True)
class RecoveryReport:
    """What a recovery found.

    Args:
        processes: The dead processes.
        left: Processes that are gone and had left nothing behind.
        recovered: How many jobs go on.
        held: The ids of jobs that now need a person.
        failed: The ids of jobs that are failed for it.
        undecided: Processes of which it cannot be known, with the reason.
    """

    processes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    recovered: int = 0
    held: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    undecided: dict[str, str] = field(default_factory=dict)


class Recoverer:
    """Finds dead processes and puts their jobs back.

    Args:
        store: Where the jobs are.
        folder: Where the process files are.
        owner: This process, which lives.
        clock: Where the time comes from.
        retention: How long failed jobs are kept.
        observe: Told of every crash.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        owner: str,
        clock: Clock,
        *,
        retention: Retention,
        observe: Observer,
    ) -> None:
        self._store = store
        self._folder = folder
        self._owner = owner
        self._clock = clock
        self._retention = retention
        self._observe = observe

    async def recover_all(self) -> RecoveryReport:
        """Look at every process that the store or the folder names."""
        report = RecoveryReport()
        named = {*await self._store.read.owners(), *list_processes(self._folder)}
        for process_id in sorted(named - {self._owner}):
            await self.recover(process_id, report)
        return report

    async def recover(self, process_id: str, report: RecoveryReport) -> None:
        """Put back the jobs of one process, if it is dead."""
        found = probe(self._folder, process_id)
        with found as corpse:
            # First, for its parent may ask for it at any moment, and then the system forgets it.
            death = self._examine(corpse)
            # The store names none that is just starting, and none that has left in good order.
            named = process_id in await self._store.read.owners()
            if corpse is None:
                if found.undecided and named:
                    report.undecided[process_id] = found.undecided
                return
            if corpse.gone and not named:
                corpse.remove()
                report.left.append(process_id)
                return
            if corpse.gone and (why := await self._lives_without_files(process_id)):
                report.undecided[process_id] = why
                return
            await self._put_back(corpse, death, report)
            corpse.remove()

    async def _lives_without_files(self, process_id: str) -> str:
        """Somebody may have removed the whole folder under a process that still has the file open.

        Its lock is gone with it. A process id alone would prove nothing, for they come again.
        """
        rows = await self._store.read.processes()
        there = set(list_processes(self._folder))
        known = {row.pid for row in rows if row.id in there}
        pid = next((row.pid for row in rows if row.id == process_id), None)
        if pid is None or pid in known or pid not in users(self._folder):
            return ""
        return f"its files in {self._folder} were removed while in use (pid {pid}). Restart it"

    def _examine(self, corpse: Corpse | None) -> Death:
        if corpse is None or not (corpse.marks and _is_certain(corpse)):
            return Death()
        return examine(self._folder, corpse.process_id, self._clock.now())

    async def _put_back(self, corpse: Corpse, death: Death, report: RecoveryReport) -> None:
        process_id = corpse.process_id
        owned = await self._store.read.owned(process_id)
        unstarted = [job for job in owned if not _may_have_started(job, corpse)]
        rest = [job for job in owned if _may_have_started(job, corpse)]
        decided = self._decide_all(rest, corpse, death)
        ids = [job.id for job in unstarted]
        await self._store.recover(process_id, ids, decided, self._clock.now())
        report.processes.append(process_id)
        report.recovered += len(unstarted) + sum(d.state is JobState.QUEUED for d in decided)
        report.held += [row.id for row in decided if row.state is JobState.HELD]
        report.failed += [row.id for row in decided if row.state is JobState.FAILED]
        self._tell(rest, decided)
        if death.stack and rest:
            _log.error("process.died", process=process_id, pid=corpse.pid, stack=death.stack)

    def _decide_all(self, jobs: list[OwnedJob], corpse: Corpse, death: Death) -> list[Recovery]:
        """A suspect runs with no other suspect beside it: its process's death is laid on it."""
        suspected = any(job.crashes >= SUSPECT_AFTER for job in jobs)
        ran = sum(not mark.timed_out for mark in corpse.marks)
        why = death.sentence(corpse.pid, others=ran - 1)
        return [
            replace(row, traceback=death.stack) if row.outcome == "crashed" else row
            for job in jobs
            for suspect in (job.crashes >= SUSPECT_AFTER,)
            for row in (self._decide(job, corpse, why, charged=not suspected or suspect),)
        ]

    def _decide(self, job: OwnedJob, corpse: Corpse, why: str, *, charged: bool) -> Recovery:
        flags = _flags(job, corpse) or 0
        if flags & TIMED_OUT:
            # That attempt had failed before; only its retry waited for the thread's end.
            reason = "It did not end within its timeout, and its thread still ran."
            row = self._row(job, corpse, JobState.QUEUED, "timed out", reason, crashed=False)
            return replace(row, failed=1, error_type="TimeoutError", unblocks=job.leads)
        if flags & INTERRUPTED and job.on_crash == "retry":
            return self._row(job, corpse, JobState.QUEUED, "interrupted", None, crashed=False)
        certain = _is_certain(corpse)
        charged = charged and certain
        if flags & INTERRUPTED:
            reason, charged = CUT_OFF, False
        elif certain:
            reason = why
        else:
            reason = "Its process ended, perhaps with the machine; the job may have started."
        if job.on_crash == "hold":
            return self._row(job, corpse, JobState.HELD, "crashed", reason, crashed=charged)
        if job.on_crash == "fail":
            return self._row(job, corpse, JobState.FAILED, "crashed", reason, crashed=charged)
        if charged and job.crashes + 1 >= MAX_CRASHES:
            reason += f" That was the {job.crashes + 1}th time: it may be what kills the process."
            return self._row(job, corpse, JobState.HELD, "crashed", reason, crashed=True)
        return self._row(job, corpse, JobState.QUEUED, "crashed", reason, crashed=charged)

    def _row(
        self,
        job: OwnedJob,
        corpse: Corpse,
        state: JobState,
        outcome: str,
        reason: str | None,
        *,
        crashed: bool,
    ) -> Recovery:
        now = self._clock.now()
        finished = state is JobState.FAILED
        return Recovery(
            id=job.id,
            attempt=job.attempt,
            owner=corpse.process_id,
            state=state,
            outcome=outcome,
            crashed=int(crashed),
            reason=reason,
            held_for="crash" if state is JobState.HELD else None,
            now=now,
            prune_at=now + self._retention.keep(state) if finished else None,
            error_type="ProcessDied" if outcome == "crashed" else None,
            error_message=reason,
            place=job.task,
            unblocks=job.leads and state is not JobState.QUEUED,
        )

    def _tell(self, jobs: list[OwnedJob], decided: list[Recovery]) -> None:
        for job, row in zip(jobs, decided, strict=True):
            if row.outcome == "crashed":
                details = {"reason": row.reason, "state": str(row.state)}
                self._observe(
                    JobEvent(EventName.CRASHED, job.id, job.task, job.attempt, None, details)
                )


def _is_certain(corpse: Corpse) -> bool:
    """Return whether it is known what had started, and that the machine lives on."""
    return corpse.readable and corpse.same_boot


def _may_have_started(job: OwnedJob, corpse: Corpse) -> bool:
    """Return whether an attempt had started, or nobody can say that it had not."""
    if job.state is not JobState.RUNNING:
        return False
    if not _is_certain(corpse):
        return True
    return _flags(job, corpse) is not None


def _flags(job: OwnedJob, corpse: Corpse) -> int | None:
    """Return the flags of the job's mark, or None where it has none."""
    key = (id_bytes(job.id), job.attempt)
    for mark in corpse.marks:
        if (mark.job_id, mark.attempt) == key:
            return mark.flags
    return None
