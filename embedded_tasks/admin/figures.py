"""What the routes tell of everything that is not one job: queues, tasks, figures, the file.

What lives here: the JSON of reports, and how they become it. What does not: asking for them.
Called by the endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from embedded_tasks.admin.models import JobTotal
from embedded_tasks.admin.moments import Moment, known_moment, moment
from embedded_tasks.job import ShownState
from embedded_tasks.masking import MASK, Masking
from embedded_tasks.reported import (
    AuditEntry,
    Count,
    ErrorGroup,
    Metric,
    Overview,
    QueueReport,
    Series,
    TaskReport,
)

__all__ = [
    "JobAudit",
    "JobAuditEntry",
    "JobErrorGroup",
    "JobErrorGroups",
    "JobQueue",
    "JobQueues",
    "JobSeries",
    "JobSeriesBucket",
    "JobStats",
    "JobTask",
    "JobTasks",
    "audit_entry_of",
    "group_of",
    "queue_of",
    "series_of",
    "stats_of",
    "task_of",
    "total_of",
]

_Seconds = Annotated[float | None, Field(description="In seconds.")]


class JobQueue(BaseModel):
    """A queue that jobs or tasks name, or that is paused."""

    name: str
    waiting: Annotated[JobTotal, Field(description="Due, and waiting for a slot.")]
    scheduled: Annotated[JobTotal, Field(description="Waiting for their time.")]
    running: int
    oldest_wait: Annotated[
        float | None, Field(description="Seconds that the job due longest has been waiting.")
    ]
    paused: bool
    paused_at: Moment | None
    paused_by: str | None


class JobQueues(BaseModel):
    """All queues, by name."""

    items: list[JobQueue]


class JobTask(BaseModel):
    """A task that was ever enqueued, with the figures of the last 24 hours."""

    name: str
    known: Annotated[bool, Field(description="Whether this process has its code.")]
    why_unknown: str | None
    is_async: bool | None
    summary: Annotated[str | None, Field(description="The first line of its docstring.")]
    parameters: Annotated[
        dict[str, Any] | None, Field(description="Its parameters, as JSON schema.")
    ]
    succeeded: Annotated[int, Field(description="Attempts that succeeded.")]
    failed: Annotated[int, Field(description="Attempts that failed or crashed.")]
    success_rate: Annotated[float | None, Field(description="From 0 to 1.")]
    run_p50: _Seconds
    run_p95: _Seconds
    wait_p50: _Seconds
    wait_p95: _Seconds


class JobTasks(BaseModel):
    """All tasks, by name."""

    items: list[JobTask]


class JobErrorGroup(BaseModel):
    """Failed attempts of one kind: the same error class, raised at the same place."""

    id: Annotated[str, Field(description="Filter jobs by `group` with it.")]
    error_type: str
    place: str
    task: str
    message: Annotated[str, Field(description="Of the latest.")]
    count: Annotated[int, Field(description="Attempts that failed so.")]
    first_seen: Moment
    last_seen: Moment
    failed: Annotated[JobTotal, Field(description="Jobs that are failed or held for it now.")]
    sample: Annotated[str, Field(description="The id of the job that failed so last.")]


class JobErrorGroups(BaseModel):
    """Kinds of failures, the one seen last first."""

    items: list[JobErrorGroup]


class JobStats(BaseModel):
    """What one look should tell."""

    states: dict[ShownState, JobTotal]
    needs_you: Annotated[JobTotal, Field(description="Failed or held.")]
    queues: list[JobQueue]
    errors: list[JobErrorGroup]


class JobSeriesBucket(BaseModel):
    """A point of a series."""

    start: Moment
    count: int
    p50: _Seconds
    p95: _Seconds


class JobSeries(BaseModel):
    """A metric over time."""

    metric: Metric
    seconds: Annotated[float, Field(description="The length of a bucket.")]
    buckets: list[JobSeriesBucket]


class JobAuditEntry(BaseModel):
    """What an operator did."""

    id: int
    at: Moment
    by: str | None
    action: str
    target: str
    details: dict[str, Any]


class JobAudit(BaseModel):
    """A page of what operators did, newest first."""

    items: list[JobAuditEntry]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]


def total_of(count: Count) -> JobTotal:
    """Return how many."""
    return JobTotal(count=count.value, capped=count.more)


def queue_of(queue: QueueReport) -> JobQueue:
    """Return a queue."""
    return JobQueue(
        name=queue.name,
        waiting=total_of(queue.depth),
        scheduled=total_of(queue.scheduled),
        running=queue.running,
        oldest_wait=queue.oldest_wait,
        paused=queue.paused,
        paused_at=moment(queue.paused_at),
        paused_by=queue.paused_by,
    )


def task_of(task: TaskReport, masking: Masking) -> JobTask:
    """Return a task."""
    return JobTask(
        name=task.name,
        known=task.known,
        why_unknown=task.why_unknown,
        is_async=task.is_async,
        summary=task.summary,
        parameters=None if task.parameters is None else _schema(task.parameters, masking),
        succeeded=task.succeeded,
        failed=task.failed,
        success_rate=task.success_rate,
        run_p50=task.run_p50,
        run_p95=task.run_p95,
        wait_p50=task.wait_p50,
        wait_p95=task.wait_p95,
    )


def group_of(group: ErrorGroup, masking: Masking) -> JobErrorGroup:
    """Return an error group."""
    return JobErrorGroup(
        id=group.id,
        error_type=group.error_type,
        place=group.place,
        task=group.task,
        message=masking.text(group.message),
        count=group.count,
        first_seen=known_moment(group.first_seen),
        last_seen=known_moment(group.last_seen),
        failed=total_of(group.failed),
        sample=group.sample,
    )


def stats_of(overview: Overview, errors: list[JobErrorGroup]) -> JobStats:
    """Return what one look should tell."""
    return JobStats(
        states={state: total_of(count) for state, count in overview.states.items()},
        needs_you=total_of(overview.needs_you),
        queues=[queue_of(queue) for queue in overview.queues],
        errors=errors,
    )


def series_of(series: Series) -> JobSeries:
    """Return a metric over time."""
    buckets = [
        JobSeriesBucket(
            start=known_moment(each.start), count=each.count, p50=each.p50, p95=each.p95
        )
        for each in series.buckets
    ]
    return JobSeries(metric=series.metric, seconds=series.seconds, buckets=buckets)


def audit_entry_of(entry: AuditEntry, masking: Masking) -> JobAuditEntry:
    """Return what an operator did."""
    return JobAuditEntry(
        id=entry.id,
        at=known_moment(entry.at),
        by=entry.by,
        action=entry.action,
        target=masking.text(entry.target),
        details=masking.values(entry.details),
    )


def _schema(schema: Mapping[str, Any], masking: Masking) -> dict[str, Any]:
    """Return a schema without what stands in its code as the default of a secret."""
    shown: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, Mapping):
            shown[key] = {name: _property(name, each, masking) for name, each in value.items()}
        elif key == "$defs" and isinstance(value, Mapping):
            shown[key] = {name: _schema(each, masking) for name, each in value.items()}
        else:
            shown[key] = value
    return shown


def _property(name: str, schema: Any, masking: Masking) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    inner = _schema(schema, masking)
    if masking.is_secret(name):
        return {key: MASK if key in ("default", "examples") else inner[key] for key in inner}
    return {
        key: masking.values({name: value})[name] if key == "default" else value
        for key, value in inner.items()
    }
