"""What operators see: jobs, queues, tasks, errors, charts, the feed and the file's health.

What lives here: `Reports`, which reads and never holds a writer up. What does not: acting
(`control`), and masking what is shown, which is the door's. Reached as `runner.reports`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from embedded_tasks.clock import Clock, Duration
from embedded_tasks.job import JobRecord, ShownState
from embedded_tasks.reported import (
    Count,
    Durability,
    ErrorGroup,
    FeedEvent,
    JobPage,
    LogPage,
    Metric,
    Overview,
    QueueReport,
    Series,
    TaskReport,
    TimelineEntry,
)
from embedded_tasks.session import Session
from embedded_tasks.store import JobFilter

__all__ = ["Reports"]


class Reports:
    """Reads, on the reading connection.

    Args:
        session: Returns the running session; raises `NotStartedError` when there is none.
        clock: Where the time comes from.
    """

    def __init__(self, session: Callable[[str], Session], clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def jobs(
        self,
        wanted: JobFilter | None = None,
        *,
        shows: Callable[[JobRecord], str] | None = None,
    ) -> JobPage:
        """Return a page of jobs, newest first.

        A search in texts reads the newest 50,000 jobs from `before` on, then stops and says so.

        Args:
            wanted: Which; None (default) for the newest 50 of all.
            shows: For a search in arguments: returns the arguments as this reader may see them,
                secrets masked; what is found must be in that text too. (A search in what is not
                shown would tell secrets letter by letter.) The record has its `args`.
        """
        raise NotImplementedError

    async def job(self, job_id: str) -> JobRecord:
        """Return all that is stored of a job, progress and owner included.

        Raises:
            JobNotFoundError: It is not there.
        """
        raise NotImplementedError

    async def overview(self) -> Overview:
        """Return what one page shows at once."""
        raise NotImplementedError

    async def counts(self) -> Mapping[ShownState, Count]:
        """Return how many jobs are in each state as people see it, each counted up to a cap."""
        raise NotImplementedError

    async def count(self, wanted: JobFilter, cap: int = 1_000) -> Count:
        """Return how many jobs a filter means, counted up to a cap."""
        raise NotImplementedError

    async def queues(self) -> list[QueueReport]:
        """Return the queues that have waiting or running jobs, or are paused, by name."""
        raise NotImplementedError

    async def tasks(self) -> list[TaskReport]:
        """Return every task name that was ever enqueued, with the figures of the last 24 hours."""
        raise NotImplementedError

    async def series(
        self,
        metric: Metric | str,
        *,
        bucket: Duration = 60,
        since: Duration = 3600,
        task: str | None = None,
    ) -> Series:
        """Return a metric over time, of one task or of all.

        Minutes are kept for a day, hours for thirty. What the last 10 seconds brought may be
        missing, and so is what a killed process had not written yet.

        Args:
            metric: Which.
            bucket: The length of a bucket (default a minute).
            since: How far back (default an hour).
            task: Only this task.
        """
        raise NotImplementedError

    async def error_groups(self, *, limit: int = 50, task: str | None = None) -> list[ErrorGroup]:
        """Return the kinds of failures, the one seen last first."""
        raise NotImplementedError

    async def timeline(self, job_id: str) -> list[TimelineEntry]:
        """Return what happened to a job, in order.

        Raises:
            JobNotFoundError: It is not there.
        """
        raise NotImplementedError

    async def logs(self, job_id: str, *, after: int = 0, limit: int = 500) -> LogPage:
        """Return the lines that a job has logged, oldest first.

        Args:
            job_id: The job.
            after: Only lines with a higher id.
            limit: How many at most.
        """
        raise NotImplementedError

    def events(
        self, after: str | None = None, *, job_id: str | None = None
    ) -> AsyncIterator[FeedEvent]:
        """Tell what happens from now on, or from behind an event on; end when the runner stops.

        Guaranteed: whatever was committed is told within about a second while somebody listens,
        at least once, each job's events in the order of their times; with `after`, what happened
        meanwhile is told first, also after a restart. An event may come twice (after a
        reconnection, and within ten seconds of it); `kind`, `job_id`, `attempt` and `at` are the
        same then. STARTED, PROGRESS and LOG tell of what is so now and are not made up for. A
        listener that does not read gets RESET in place of what it missed, and so does one that
        was away too long.

        Args:
            after: The id of the last event that was seen.
            job_id: Only events of this job.

        Example:
            `async for event in runner.reports.events(last_event_id): ...`
        """
        raise NotImplementedError

    async def durability(self) -> Durability:
        """Return how safe what is stored is, and who has the file open."""
        raise NotImplementedError
