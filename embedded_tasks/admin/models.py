"""What the routes tell of jobs.

What lives here: the JSON of a job, its attempts, steps and lines. What does not: how records become
it (`shown`). Used by the endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from embedded_tasks.admin.moments import Moment as _Moment
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.job import ShownState

__all__ = [
    "JobArgument",
    "JobAttempt",
    "JobAttemptError",
    "JobCancellation",
    "JobDetails",
    "JobLine",
    "JobLines",
    "JobLog",
    "JobLogLine",
    "JobProgress",
    "JobQueueChange",
    "JobResult",
    "JobStep",
    "JobTotal",
    "JobTransition",
]


class JobAttemptError(BaseModel):
    """The error of an attempt, as text."""

    type: str
    message: str
    traceback: str | None


class JobAttempt(BaseModel):
    """An attempt that has ended."""

    number: int
    outcome: Annotated[str, Field(description="Such as succeeded, retry, failed, crashed.")]
    started_at: _Moment | None
    ended_at: _Moment | None
    seconds: Annotated[float | None, Field(description="How long it took.")]
    error: JobAttemptError | None


class JobProgress(BaseModel):
    """How far a job has come, as it said last."""

    done: float
    total: float | None
    share: Annotated[float | None, Field(description="From 0 to 1; null without a total.")]
    message: str | None
    at: _Moment


class JobLine(BaseModel):
    """A job as a list shows it, without its arguments."""

    id: str
    task: str
    state: ShownState
    queue: str
    tags: list[str]
    priority: int
    attempt: Annotated[int, Field(description="The present or last attempt; 0 before the first.")]
    created_at: _Moment
    due_at: _Moment
    started_at: Annotated[_Moment | None, Field(description="Of the present or last attempt.")]
    finished_at: _Moment | None
    reason: Annotated[str | None, Field(description="Why it did not succeed, in words.")]
    held_for: Annotated[str | None, Field(description="What a held job waits for.")]
    cancel_requested: bool
    request_id: str | None
    owner: Annotated[str | None, Field(description="The `owner` of its options.")]
    group: Annotated[str | None, Field(description="The error group of its latest failure.")]
    progress: JobProgress | None


class JobTotal(BaseModel):
    """How many, counted no further than to a cap."""

    count: int
    capped: Annotated[bool, Field(description="There are more; counting stopped.")]


class JobLines(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobLine]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]
    stopped: Annotated[
        bool,
        Field(description="A search has read as many jobs as it may at once; go on by the cursor."),
    ] = False
    read_back_to: Annotated[
        _Moment | None, Field(description="Where a search stopped: when that job was created.")
    ] = None
    total: Annotated[JobTotal | None, Field(description="Where it was asked for.")] = None


class JobArgument(BaseModel):
    """One argument, for people: plain JSON, secrets masked, long texts cut."""

    name: str | None
    value: Any


class JobDetails(JobLine):
    """All that is stored of a job."""

    failures: int
    crashes: int
    snoozes: int
    on_crash: str
    start_by: _Moment | None
    finish_by: _Moment | None
    options: Annotated[dict[str, Any], Field(description="The job's own, durations in seconds.")]
    arguments: Annotated[list[JobArgument] | None, Field(description="Null: see the note.")]
    arguments_note: Annotated[str | None, Field(description="Why arguments are not all shown.")]
    result: Annotated[Any, Field(description="What the function returned, shown as arguments.")]
    result_note: Annotated[str | None, Field(description="Why the result is not shown.")]
    attempts: list[JobAttempt]
    process: Annotated[str | None, Field(description="The process that runs or reserves it.")]
    traceparent: str | None


class JobCancellation(BaseModel):
    """What a cancellation came to."""

    id: str
    answer: CancelAnswer
    detail: str
    state: ShownState


class JobTransition(BaseModel):
    """A job after something was asked of it."""

    id: str
    state: ShownState


class JobQueueChange(BaseModel):
    """A queue after it was paused or resumed."""

    queue: str
    paused: bool
    changed: Annotated[bool, Field(description="Whether it was not so before.")]


class JobResult(BaseModel):
    """What a job's function returned."""

    id: str
    result: Annotated[Any, Field(description="As plain JSON, secrets masked.")]
    note: Annotated[str | None, Field(description="Why it is not shown.")]


class JobStep(BaseModel):
    """One step of a job's life."""

    at: Annotated[_Moment | None, Field(description="Null where that was not written.")]
    what: Annotated[str, Field(description="Such as enqueued, started, ended, died, replayed.")]
    attempt: int | None
    outcome: str | None
    text: str | None
    error_type: str | None
    by: Annotated[str | None, Field(description="Who did it, of what was done by hand.")]


class JobLogLine(BaseModel):
    """A line that a job has logged."""

    id: int
    at: _Moment
    attempt: int
    level: str
    text: str
    fields: dict[str, str]


class JobLog(BaseModel):
    """Lines of one job, oldest first."""

    lines: list[JobLogLine]
    dropped: Annotated[bool, Field(description="Whether older lines were dropped for their size.")]
    more: Annotated[bool, Field(description="Whether there are newer ones: ask `after` the last.")]
