"""What reports answer with: plain values, as they were at the time of asking.

What lives here: what is known of jobs, queues, tasks, errors and charts, and the names of `facts`.
What does not: asking for it (`reports`). Made by the store and by `reports`; shown by doors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from embedded_tasks.facts import (
    AuditEntry,
    AuditPage,
    Durability,
    EventKey,
    FeedEvent,
    FeedKind,
    NonDurableSite,
    ProcessReport,
)
from embedded_tasks.job import JobRecord, ShownState

__all__ = [
    "AuditEntry",
    "AuditPage",
    "Bucket",
    "Count",
    "Durability",
    "ErrorGroup",
    "EventKey",
    "FeedEvent",
    "FeedKind",
    "Histogram",
    "JobPage",
    "LogLine",
    "LogPage",
    "Metric",
    "NonDurableSite",
    "Overview",
    "ProcessReport",
    "QueueReport",
    "Series",
    "TaskReport",
    "TimelineEntry",
]


@dataclass(frozen=True, slots=True)
class Count:
    """How many, counted no further than to a cap.

    Args:
        value: How many were counted.
        more: Whether there are more; shown as "10,000+".
    """

    value: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.value:,}+" if self.more else f"{self.value:,}"


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first.

    Args:
        jobs: The jobs; without arguments, results and attempts.
        next: `JobFilter.before` of the next page; None when there is no more.
        stopped: Whether the page ends because a search has read as many jobs as it may at once,
            and not because it is full: "go on" with `next`.
        read_back_to: Where a search has stopped: when that job was created.
    """

    jobs: list[JobRecord]
    next: int | None = None
    stopped: bool = False
    read_back_to: float | None = None


@dataclass(frozen=True, slots=True)
class QueueReport:
    """A queue. Times are seconds.

    Args:
        name: Its name.
        depth: How many jobs are due and wait for a slot.
        scheduled: How many wait for their time (retries included).
        running: How many run.
        oldest_wait: How long the job that is due longest has been waiting; None when none is.
        paused_at: When it was paused; None when it is not.
        paused_by: Who has paused it.
    """

    name: str
    depth: Count
    scheduled: Count
    running: int
    oldest_wait: float | None = None
    paused_at: float | None = None
    paused_by: str | None = None

    @property
    def paused(self) -> bool:
        """Whether its jobs are kept from starting."""
        return self.paused_at is not None


@dataclass(frozen=True, slots=True)
class Overview:
    """What one page shows at once.

    Args:
        states: How many jobs are in each state as people see it.
        needs_you: How many are failed or held.
        queues: All queues that have waiting or running jobs, or are paused.
        errors: The error groups seen last, at most 5.
    """

    states: Mapping[ShownState, Count]
    needs_you: Count
    queues: list[QueueReport]
    errors: list[ErrorGroup]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Lengths of time in classes that grow by a factor of the square root of two.

    Args:
        counts: How many fell into each class, by the class's number.
    """

    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many were measured."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Return the seconds below which this share (0 to 1) of them lies; None without any."""
        wanted, seen = share * self.total, 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted and seen:
                return self.upper(number)
        return None

    @staticmethod
    def upper(number: int) -> float:
        """Return the upper bound of a class, in seconds."""
        return float(0.001 * 2.0 ** (number / 2))


@dataclass(frozen=True, slots=True)
class TaskReport:
    """A task name that was ever enqueued. Times are seconds, figures those of the last 24 hours.

    Args:
        name: The stored name.
        known: Whether this process has its code.
        why_unknown: Why not, in words.
        is_async: Whether it runs on the event loop; None where that is not known.
        summary: The first line of its docstring.
        parameters: Its parameters as JSON schema: an object whose properties have "type" and so on
            as pydantic tells them, and "default"; None where the code is not there.
        succeeded: Attempts that succeeded.
        failed: Attempts that failed or whose process died, those that are retried included.
        run_p50: Median of the time that an attempt ran.
        run_p95: Its 95th percentile.
        wait_p50: Median of the time from due to start.
        wait_p95: Its 95th percentile.
    """

    name: str
    known: bool
    why_unknown: str | None = None
    is_async: bool | None = None
    summary: str | None = None
    parameters: Mapping[str, Any] | None = None
    succeeded: int = 0
    failed: int = 0
    run_p50: float | None = None
    run_p95: float | None = None
    wait_p50: float | None = None
    wait_p95: float | None = None

    @property
    def success_rate(self) -> float | None:
        """The share of attempts that succeeded, 0 to 1; None when there were none."""
        total = self.succeeded + self.failed
        return self.succeeded / total if total else None


class Metric(StrEnum):
    """What a series shows."""

    THROUGHPUT = "throughput"
    """Attempts that ended, whatever the outcome."""
    SUCCESSES = "successes"
    """Attempts that succeeded."""
    FAILURES = "failures"
    """Attempts that failed or whose process died, those that are retried included."""
    QUEUE_WAIT = "queue_wait"
    """Time from due to start."""
    RUN_TIME = "run_time"
    """Time that an attempt ran."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A point of a series.

    Args:
        start: When it begins, in seconds since 1970.
        count: How many attempts ended in it.
        p50: For times: the median in seconds.
        p95: For times: the 95th percentile in seconds.
    """

    start: float
    count: int = 0
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """A metric over time; empty buckets are there too.

    Args:
        metric: Which.
        seconds: The length of a bucket: as asked for, made a whole number of minutes, or of hours
            where minutes are not kept any more.
        buckets: Oldest first.
    """

    metric: Metric
    seconds: float
    buckets: list[Bucket]


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed attempts of one kind: the same error class, raised at the same place.

    Args:
        id: Names the group in `JobFilter(group=)`.
        error_type: The error's class.
        place: The innermost place in the user's code: `module:function`, or the task's name when
            none is known.
        task: The task that failed so last.
        message: The message of the latest.
        count: How many attempts failed so, since `first_seen`.
        first_seen: When the first one ended, in seconds since 1970.
        last_seen: When the latest one ended.
        failed: How many jobs are failed or held for it now.
        sample: The id of the job that failed so last; retention may have removed it.
    """

    id: str
    error_type: str
    place: str
    task: str
    message: str
    count: int
    first_seen: float
    last_seen: float
    failed: Count
    sample: str


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One step of a job's life, in order.

    Args:
        at: When, in seconds since 1970; None where that was not written.
        what: "enqueued", "due", "started", "ended", "died", "replayed", "requeued", "by hand",
            "progress", "finished", "held".
        attempt: The attempt that it belongs to.
        outcome: For "ended": its outcome. For "finished": the state. For "by hand": the action.
        text: In words.
        error_type: The error's class, for an attempt that ended with one.
        by: Who did it, for "by hand".
    """

    at: float | None
    what: str
    attempt: int | None = None
    outcome: str | None = None
    text: str | None = None
    error_type: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a job has logged.

    Args:
        id: Grows from line to line.
        at: When, in seconds since 1970.
        attempt: In which attempt.
        level: Such as "info".
        text: What was said.
        fields: Named values, as text; mask them by their names before they are shown.
    """

    id: int
    at: float
    attempt: int
    level: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of one job, oldest first.

    Args:
        lines: The lines.
        dropped: Whether older ones were dropped, because a job may keep only so many bytes.
        more: Whether there are newer ones: ask again with `after=lines[-1].id`.
    """

    lines: list[LogLine]
    dropped: bool = False
    more: bool = False
