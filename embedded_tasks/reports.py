"""What operators see: jobs, queues, tasks, errors, charts, the feed and the file's health.

What lives here: `Reports`, which reads and never holds a writer up. What does not: acting
(`control`), and masking what is shown, which is the door's. Reached as `runner.reports`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from embedded_tasks.changes import Change
from embedded_tasks.charts import SeriesAsked, series_of, task_reports
from embedded_tasks.clock import Clock, Duration
from embedded_tasks.durability import durability_of
from embedded_tasks.errors import JobNotFoundError
from embedded_tasks.feed import Listener
from embedded_tasks.job import JobRecord, ShownState
from embedded_tasks.known_queues import known_queues
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
from embedded_tasks.sites import NonDurableSites
from embedded_tasks.store import JobFilter
from embedded_tasks.timeline import timeline_of

__all__ = ["Reports", "ShownTexts"]


class ShownTexts(Protocol):
    """What a reader may see of a job, as texts to search in."""

    def arguments_text(self, record: JobRecord) -> str:
        """Return its arguments."""
        ...

    def errors_text(self, record: JobRecord) -> str:
        """Return its reason and the errors of its attempts."""
        ...


class Reports:
    """Reads, on the reading connection.

    Args:
        session: Returns the running session; raises `NotStartedError` when there is none.
        clock: Where the time comes from.
        non_durable: What could not be stored in this process, and where it came from.
    """

    def __init__(
        self, session: Callable[[str], Session], clock: Clock, non_durable: NonDurableSites
    ) -> None:
        self._session = session
        self._clock = clock
        self._non_durable = non_durable

    def now(self) -> float:
        """Return the time by which all of this is told, in seconds since 1970."""
        return self._clock.now()

    async def jobs(
        self,
        wanted: JobFilter | None = None,
        *,
        shows: ShownTexts | None = None,
    ) -> JobPage:
        """Return a page of jobs, newest first.

        A search in texts reads the newest 50,000 jobs from `before` on, then stops and says so.

        Args:
            wanted: Which; None (default) for the newest 50 of all.
            shows: For a search in texts: what this reader may see of them, secrets masked; what is
                found must be in those texts too. (A search in what is not shown would tell
                secrets letter by letter.)
        """
        session, wanted = self._session("reports"), wanted or JobFilter()
        page = await session.store.views.page(wanted, self._clock.now())
        if shows is None or not wanted.searches:
            return page
        kept = [job for job in page.jobs if await self._is_found(job, wanted, shows)]
        return replace(page, jobs=kept)

    async def _is_found(self, listed: JobRecord, wanted: JobFilter, shows: ShownTexts) -> bool:
        """Return whether a reader can see in a job what was searched for."""
        try:
            # With its arguments and its attempts, which a page leaves out.
            job = await self.job(listed.id)
        except JobNotFoundError:
            return False
        arguments, errors = shows.arguments_text(job).lower(), shows.errors_text(job).lower()
        searches = (
            (wanted.argument, (arguments,)),
            (wanted.error, (errors,)),
            (wanted.text, (arguments, errors)),
        )
        return all(
            what is None or any(what.lower() in text for text in texts) for what, texts in searches
        )

    async def job(self, job_id: str) -> JobRecord:
        """Return all that is stored of a job, progress and owner included.

        Raises:
            JobNotFoundError: It is not there.
        """
        views = self._session("reports").store.views
        return await views.complete(await self._fetch(job_id))

    async def overview(self) -> Overview:
        """Return what one page shows at once."""
        store, now = self._session("reports").store, self._clock.now()
        states = await store.views.counts(now)
        failed, held = states[ShownState.FAILED], states[ShownState.HELD]
        return Overview(
            states,
            Count(failed.value + held.value, failed.more or held.more),
            await store.views.queues(now),
            await store.views.groups(5, None),
        )

    async def counts(self) -> Mapping[ShownState, Count]:
        """Return how many jobs are in each state as people see it, each counted up to a cap."""
        return await self._session("reports").store.views.counts(self._clock.now())

    async def count(self, wanted: JobFilter, cap: int = 1_000) -> Count:
        """Return how many jobs a filter means, counted up to a cap."""
        views = self._session("reports").store.views
        return await views.count(wanted, self._clock.now(), cap)

    async def queues(self) -> list[QueueReport]:
        """Return all queues by name: those that jobs, tasks of this code or `max_queued` name."""
        return await known_queues(self._session("reports"), self._clock.now())

    async def tasks(self) -> list[TaskReport]:
        """Return every task name that was ever enqueued, with the figures of the last 24 hours."""
        return await task_reports(self._session("reports"), self._clock.now())

    async def series(
        self,
        metric: Metric | str,
        *,
        bucket: Duration = 60,
        since: Duration = 3600,
        task: str | None = None,
    ) -> Series:
        """Return a metric over time, of one task or of all.

        Minutes are kept for six hours, hours for thirty days. What the last 10 seconds brought may
        be missing, and so is what a killed process had not written yet.

        Args:
            metric: Which.
            bucket: The length of a bucket (default a minute).
            since: How far back (default an hour).
            task: Only this task.
        """
        asked = SeriesAsked.of(metric, bucket, since, task)
        return await series_of(self._session("reports").store.views, asked, self._clock.now())

    async def error_groups(self, *, limit: int = 50, task: str | None = None) -> list[ErrorGroup]:
        """Return the kinds of failures, the one seen last first."""
        return await self._session("reports").store.views.groups(limit, task)

    async def timeline(self, job_id: str) -> list[TimelineEntry]:
        """Return what happened to a job, in order.

        Raises:
            JobNotFoundError: It is not there.
        """
        views = self._session("reports").store.views
        record = await self.job(job_id)
        return timeline_of(record, await views.audit_of(record.id))

    async def logs(self, job_id: str, *, after: int = 0, limit: int = 500) -> LogPage:
        """Return the lines that a job has logged, oldest first.

        Args:
            job_id: The job.
            after: Only lines with a higher id.
            limit: How many at most.
        """
        return await self._session("reports").store.views.logs(job_id, after, limit)

    async def place(self) -> str:
        """Return the id of this moment: `events(after=)` tells all that happens from now on."""
        return str(await self._session("reports").store.news.now(self._clock.now()))

    def events(
        self, after: str | None = None, *, job_id: str | None = None
    ) -> AsyncIterator[FeedEvent]:
        """Tell what happens from now on, or from behind an event on; end when the runner stops.

        Guaranteed: whatever was committed is told within about a second while somebody listens,
        at least once, each job's events in the order of their times; with `after`, what happened
        meanwhile is told first, also after a restart. After a reconnection an event may come
        twice, if it happened in the two seconds before; `kind`, `job_id`, `attempt` and `at` are
        the same then. STARTED, PROGRESS and LOG tell of what is so now and are not made up for.
        A listener gets RESET in place of what it missed: when it does not read, was away for a
        day, or more happens (500 jobs a second) than anybody can follow.

        Args:
            after: The id of the last event that was seen.
            job_id: Only events of this job.

        Example:
            `async for event in runner.reports.events(last_event_id): ...`
        """
        return self._session("reports").operating.feed.listen(after, job_id)

    async def listener(self) -> Listener:
        """Return a listener to all events; what is told at one time comes to it as one batch."""
        return await self._session("reports").operating.feed.join()

    async def missed(self, after: str) -> Sequence[FeedEvent] | None:
        """Return what has happened since an event; None where it is too much or too long ago."""
        return await self._session("reports").operating.feed.missed(after)

    async def given(self, ids: Iterable[str]) -> Mapping[str, tuple[str, str]]:
        """Return the task and the stored arguments of these jobs, of those that are there."""
        return await self._session("reports").store.news.given(ids)

    async def mark(self) -> str:
        """Return the mark of what is stored now: `changes(after=)` tells when it is another."""
        return await self._session("reports").operating.feed.changes.mark()

    @property
    def last_mark(self) -> str | None:
        """The mark that `changes` told last; None when nobody follows it."""
        return self._session("reports").operating.feed.changes.announced

    def changes(self, after: str | None = None) -> AsyncIterator[Change]:
        """Tell that something has changed, and not what, until the runner stops.

        Soon after a change when nothing was told for a while, every two seconds while much
        happens, and less often when many follow: what it costs depends on neither.

        Args:
            after: The mark that is known; another one is told at once.
        """
        return self._session("reports").operating.feed.changes.follow(after)

    async def durability(self) -> Durability:
        """Return how safe what is stored is, and who has the file open."""
        return await durability_of(self._session("reports"), self._non_durable)

    def file_problem(self) -> str | None:
        """Return what happened to the file since it was opened, in words; nothing is read for it.

        What is read then is what was in the file that was opened, which nobody else sees.
        """
        return self._session("reports").store.identity.problem()

    async def _fetch(self, job_id: str) -> JobRecord:
        record = await self._session("reports").store.read.get(job_id, self._clock.now())
        if record is None:
            raise JobNotFoundError(job_id)
        return record
