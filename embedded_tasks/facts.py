"""What has happened and how the file stands: plain values of the feed, the audit and the disk.

What lives here: events, acts of operators, processes, and the file. What does not: jobs and figures
(`reported`). Made by the store and by `reports`; shown by doors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from embedded_tasks.job import ShownState

__all__ = [
    "AuditEntry",
    "AuditPage",
    "Durability",
    "EventKey",
    "FeedEvent",
    "FeedKind",
    "NonDurableSite",
    "ProcessReport",
]


EventKey = tuple[str, str | None, int | None, float, str | None]
"""Names an event, whoever tells it."""


class FeedKind(StrEnum):
    """What an event of the feed tells."""

    ENQUEUED = "enqueued"
    STARTED = "started"
    FINISHED = "finished"
    """Succeeded, failed, cancelled or expired: see `state`."""
    ATTEMPT = "attempt"
    """An attempt ended and its job did not finish: see `outcome` (retry, snoozed, interrupted,
    crashed, held, timed out)."""
    PROGRESS = "progress"
    LOG = "log"
    OPERATOR = "operator"
    """An operator has done something: see `outcome` for what and `details`."""
    RESET = "reset"
    """What happened meanwhile is not known: read everything anew."""


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One thing that happened.

    Args:
        id: Hand it to `Reports.events(after=)` to go on behind this event, also after a restart.
        kind: What it tells.
        at: When, in seconds since 1970.
        job_id: The job, if it is about one.
        task: Its task's name.
        queue: Its queue.
        state: Its state as people see it at the time of reading.
        attempt: The number of the attempt.
        outcome: What the attempt came to, or what the operator did.
        details: More, by name: `reason`, `done`, `total`, `message`, `by`, `target`.
    """

    id: str
    kind: FeedKind
    at: float
    job_id: str | None = None
    task: str | None = None
    queue: str | None = None
    state: ShownState | None = None
    attempt: int | None = None
    outcome: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> EventKey:
        """What is the same when the same is told twice."""
        if self.kind is FeedKind.OPERATOR:
            return (self.kind, self.details.get("target"), self.attempt, self.at, self.outcome)
        return (self.kind, self.job_id, self.attempt, self.at, self.outcome)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What an operator did.

    Args:
        id: Grows from entry to entry.
        at: When, in seconds since 1970.
        by: Who, as the door told it.
        action: "pause", "resume", "retry", "cancel", "run_now", "delete" or "bulk <action>".
        target: The queue or the job's id; for bulk actions the filter in words.
        details: More, by name.
    """

    id: int
    at: float
    by: str | None
    action: str
    target: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of what operators did, newest first; `next` is `before=` of the next page."""

    entries: Sequence[AuditEntry]
    next: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """A process that has the file open, or had it and was not yet recovered.

    Args:
        id: The id of its run.
        pid: Its process number.
        started_at: When, in seconds since 1970.
        runs_jobs: Whether it attempts jobs.
        lock: "ours", "held" (it lives), "free" (it is dead), or "unknown".
        why: Why that is unknown.
        running: How many jobs it runs.
    """

    id: str
    pid: int
    started_at: float
    runs_jobs: bool
    lock: str
    why: str | None = None
    running: int = 0


@dataclass(frozen=True, slots=True)
class NonDurableSite:
    """A place that adds tasks which cannot be stored.

    Args:
        file: The file.
        line: The line.
        reason: Why it cannot be stored.
        count: How often, since this process started.
        last_at: When last, in seconds since 1970.
    """

    file: str
    line: int
    reason: str
    count: int
    last_at: float


@dataclass(frozen=True, slots=True)
class Durability:
    """How safe what is stored is. Sizes are in bytes, times in seconds since 1970.

    Args:
        path: The file.
        size: Its size.
        wal_size: The size of the file beside it that commits are written to first.
        free: What is free on its disk; None where that is not known.
        checkpointed_at: When the WAL was last copied back, by whichever process: only that writes
            to the file itself. None without a WAL.
        checkpoint_frames: How many pages this process's last one copied; None when it had none.
        checkpoints: How often this process has copied it back.
        journal_mode: SQLite's setting.
        synchronous: SQLite's setting: "full" or "extra" survive a power cut.
        sqlite: SQLite's version.
        wal_reset_bug: Whether that version can lose commits when a foreign program writes and
            checkpoints the file; this package's own writers are kept apart.
        schema: The number of the file's schema.
        processes: Who has the file open.
        recovered: How many jobs this process's start put back.
        recovered_processes: Of which dead processes.
        recovered_held: How many of their jobs were held.
        non_durable: How many tasks ran in their request because they could not be stored.
        non_durable_sites: Where they come from, at most 50 places.
    """

    path: str
    size: int
    wal_size: int
    free: int | None
    checkpointed_at: float | None
    checkpoint_frames: int | None
    checkpoints: int
    journal_mode: str
    synchronous: str
    sqlite: str
    wal_reset_bug: bool
    schema: int
    processes: list[ProcessReport]
    recovered: int
    recovered_processes: list[str]
    recovered_held: int
    non_durable: int
    non_durable_sites: list[NonDurableSite] = field(default_factory=list)
