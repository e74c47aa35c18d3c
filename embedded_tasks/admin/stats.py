"""The endpoints of figures: counts, series, error groups, and what operators did.

What lives here: what is read for overviews and charts. What does not: single jobs. Included by
`routes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from embedded_tasks.admin.cursors import cursor_of, key_of
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.fields import PRINTABLE, AuditQuery
from embedded_tasks.admin.figures import (
    JobAudit,
    JobErrorGroup,
    JobErrorGroups,
    JobSeries,
    JobStats,
    audit_entry_of,
    group_of,
    series_of,
    stats_of,
)
from embedded_tasks.reported import ErrorGroup

__all__ = ["ErrorQuery", "MetricName", "SeriesQuery", "endpoints"]

# A Literal and no enum: old releases of FastAPI cannot describe an enum with a description.
MetricName = Literal["throughput", "successes", "failures", "queue_wait", "run_time"]
"""The names of `Metric`."""

_MONTH = 31 * 86_400
_MOST_BUCKETS = 2_000

_Task = Annotated[
    str | None,
    Field(description="Only this task.", min_length=1, max_length=500, pattern=PRINTABLE),
]


class SeriesQuery(BaseModel):
    """Which series."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    metric: Annotated[MetricName, Field(description="What is counted or measured.")]
    bucket: Annotated[
        int, Field(description="Seconds of a bucket.", ge=60, le=86_400, multiple_of=60)
    ] = 60
    since: Annotated[int, Field(description="Seconds back from now.", ge=60, le=_MONTH)] = 3600
    task: _Task = None


class ErrorQuery(BaseModel):
    """Which error groups."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(description="How many at most.", ge=1, le=200)] = 50
    task: _Task = None


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    return [
        Endpoint("GET", "/stats", each.get_stats, JobStats),
        Endpoint("GET", "/stats/series", each.get_series, JobSeries, statuses=(422,)),
        Endpoint("GET", "/errors", each.list_errors, JobErrorGroups, statuses=(422,)),
        Endpoint("GET", "/audit", each.list_audit, JobAudit, statuses=(422,)),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def get_stats(self) -> JobStats:
        """Tell how many jobs are in each state, how the queues are, and what failed last."""
        overview = await self._desk.runner.reports.overview()
        return stats_of(overview, await self._groups(overview.errors))

    async def get_series(self, query: Annotated[SeriesQuery, Query()]) -> JobSeries:
        """Tell a metric over time; the series survives a restart.

        There are at most 2,000 buckets: where more are asked for, they are made longer.
        """
        shortest = -(-query.since // _MOST_BUCKETS)
        bucket = max(query.bucket, -(-shortest // 60) * 60)
        series = await self._desk.runner.reports.series(
            query.metric, bucket=bucket, since=query.since, task=query.task
        )
        return series_of(series)

    async def list_errors(self, query: Annotated[ErrorQuery, Query()]) -> JobErrorGroups:
        """List kinds of failures: the same error class, raised at the same place."""
        reports = self._desk.runner.reports
        groups = await reports.error_groups(limit=query.limit, task=query.task)
        return JobErrorGroups(items=await self._groups(groups))

    async def _groups(self, groups: Sequence[ErrorGroup]) -> list[JobErrorGroup]:
        # The message is that of the job that failed so last.
        return [group_of(group, await self._desk.masking_for(group.sample)) for group in groups]

    async def list_audit(self, query: Annotated[AuditQuery, Query()]) -> JobAudit:
        """List what operators did, newest first."""
        before = None if query.cursor is None else key_of(query.cursor)
        page = await self._desk.runner.control.audit(before=before, limit=query.limit)
        return JobAudit(
            items=[audit_entry_of(entry, self._desk.shown.masking) for entry in page.entries],
            next_cursor=None if page.next is None else cursor_of(page.next),
        )
