"""What the routes answer with.

What lives here: the JSON of a job, a page, counts and health, and how records become it. What does
not: asking the runner (`routes`). Called by `routes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from embedded_tasks.admin.display import UnreadableError, arguments_in, result_in
from embedded_tasks.admin.masking import masked
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.health import Health
from embedded_tasks.job import AttemptRecord, JobRecord, JobState, ShownState
from embedded_tasks.store import COUNT_CAP

__all__ = [
    "JobArgument",
    "JobAttempt",
    "JobAttemptError",
    "JobCancellation",
    "JobDetails",
    "JobLine",
    "JobLines",
    "RunnerHealth",
    "StateCount",
    "StateCounts",
    "attempts_of",
    "counts_of",
    "details_of",
    "health_of",
    "line_of",
]

_Moment = Annotated[datetime, Field(description="In UTC.")]
_UNNAMED = "Arguments without a known parameter name are masked: a name tells what is a secret."


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


class JobLines(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobLine]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]


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


class StateCount(BaseModel):
    """How many jobs are in one state."""

    count: int
    capped: Annotated[bool, Field(description="There are more; counting stopped.")]


class StateCounts(BaseModel):
    """How many jobs are in each stored state; `queued` has the scheduled and retrying ones."""

    counts: dict[JobState, StateCount]
    cap: Annotated[int, Field(description="Where counting stops.")]


class RunnerHealth(BaseModel):
    """One process's runner, with nothing that needs a person."""

    ok: bool
    problems: list[str]
    process: Annotated[str, Field(description="The id of this run.")]
    running: Annotated[int, Field(description="Attempts that run here.")]
    slots: Annotated[dict[str, int], Field(description="How many may, by kind.")]
    stuck: Annotated[int, Field(description="Functions that go on although they were stopped.")]
    processes: Annotated[list[str], Field(description="Living siblings.")]
    unknown_tasks: Annotated[list[str], Field(description="Stored names without code here.")]
    recovered: Annotated[int, Field(description="Jobs that the last start put back.")]


def line_of(record: JobRecord) -> JobLine:
    """Return a job for a list."""
    return JobLine(**_line(record))


def details_of(record: JobRecord, parameters: Sequence[str] | None) -> JobDetails:
    """Return all of a job.

    Args:
        record: What is stored.
        parameters: The names of its function's positional parameters, None where not known.
    """
    arguments, arguments_note = _arguments(record.args or "", parameters)
    result, result_note = _result(record)
    return JobDetails(
        **_line(record),
        failures=record.failures,
        crashes=record.crashes,
        snoozes=record.snoozes,
        on_crash=record.on_crash,
        start_by=_moment(record.start_by),
        finish_by=_moment(record.finish_by),
        options=_options(record.options),
        arguments=arguments,
        arguments_note=arguments_note,
        result=result,
        result_note=result_note,
        attempts=attempts_of(record.attempts),
        process=record.owner,
        traceparent=record.traceparent,
    )


def attempts_of(attempts: Sequence[AttemptRecord]) -> list[JobAttempt]:
    """Return the attempts of a job, the first one first."""
    return [_attempt(attempt) for attempt in attempts]


def counts_of(counts: Mapping[JobState, int]) -> StateCounts:
    """Return the counts of all states."""
    found = {state: counts.get(state, 0) for state in JobState}
    return StateCounts(
        counts={
            state: StateCount(count=count, capped=count >= COUNT_CAP)
            for state, count in found.items()
        },
        cap=COUNT_CAP,
    )


def health_of(health: Health) -> RunnerHealth:
    """Return the health of this process's runner."""
    return RunnerHealth(
        ok=health.ok,
        problems=health.problems,
        process=health.process,
        running=health.running,
        slots=health.slots,
        stuck=health.stuck,
        processes=health.processes,
        unknown_tasks=health.unknown_tasks,
        recovered=health.recovered,
    )


def _line(record: JobRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "task": record.task,
        "state": record.shown,
        "queue": record.queue,
        "tags": list(record.tags),
        "priority": record.priority,
        "attempt": record.attempt,
        "created_at": _moment(record.created_at),
        "due_at": _moment(record.due_at),
        "started_at": _moment(record.started_at),
        "finished_at": _moment(record.finished_at),
        "reason": record.reason and masked(record.reason),
        "held_for": record.held_for,
        "cancel_requested": record.cancel_requested,
        "request_id": record.request_id,
    }


def _attempt(attempt: AttemptRecord) -> JobAttempt:
    error = attempt.error
    took = None
    if attempt.started_at is not None and attempt.ended_at is not None:
        took = max(attempt.ended_at - attempt.started_at, 0.0)
    return JobAttempt(
        number=attempt.number,
        outcome=attempt.outcome,
        started_at=_moment(attempt.started_at),
        ended_at=_moment(attempt.ended_at),
        seconds=took,
        error=None
        if error is None
        else JobAttemptError(
            type=error.type,
            message=masked(error.message),
            traceback=error.traceback and masked(error.traceback),
        ),
    )


def _arguments(
    text: str, parameters: Sequence[str] | None
) -> tuple[list[JobArgument] | None, str | None]:
    try:
        found = arguments_in(text, parameters)
    except UnreadableError as error:
        return None, str(error)
    arguments = [JobArgument(name=name, value=value) for name, value in found]
    return arguments, _UNNAMED if any(name is None for name, _ in found) else None


def _result(record: JobRecord) -> tuple[Any, str | None]:
    if record.result is None:
        kept = record.state is not JobState.SUCCEEDED
        return None, None if kept else record.reason or "Its value was not kept."
    try:
        return result_in(record.result), None
    except UnreadableError as error:
        return None, str(error)


def _options(text: str | None) -> dict[str, Any]:
    """Return the options that were given with the job; those that are columns are shown as such."""
    try:
        options = json.loads(text or "{}")
    except ValueError:  # the file may hold anything
        return {}
    return options if isinstance(options, dict) else {}


def _moment(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # `finish_within` may reach beyond the year 9999
        return datetime.max.replace(tzinfo=UTC)
