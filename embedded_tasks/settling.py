"""An outcome as the store writes it.

What lives here: the one mapping from outcomes to states, counters and times. What does not: the
writing. Called by the settler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from embedded_tasks.config import Retention
from embedded_tasks.events import EventName
from embedded_tasks.job import (
    FINISHED,
    SUSPECT_AFTER,
    AttemptError,
    Cancelled,
    ClaimedJob,
    Crashed,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    LoopBlock,
    Outcome,
    RetryLater,
    Settlement,
    Snoozed,
    Succeeded,
)

__all__ = ["EVENT_OF", "Times", "noted", "settlement", "succeeded"]

EVENT_OF: Mapping[type[Outcome], EventName] = {
    Succeeded: EventName.SUCCEEDED,
    RetryLater: EventName.RETRY_SCHEDULED,
    Snoozed: EventName.SNOOZED,
    Failed: EventName.FAILED,
    Cancelled: EventName.CANCELLED,
    Expired: EventName.EXPIRED,
    Interrupted: EventName.INTERRUPTED,
    Held: EventName.HELD,
    Crashed: EventName.CRASHED,
}
"""The event that tells of each outcome."""


class Times(NamedTuple):
    """When an attempt started and ended, in seconds since 1970."""

    started_at: float
    ended_at: float


_Others = RetryLater | Snoozed | Failed | Cancelled | Expired | Interrupted | Held | Crashed


@dataclass(slots=True)
class _Next:
    """What differs from outcome to outcome."""

    state: JobState
    outcome: str
    due_at: float | None = None
    result: str | None = None
    reason: str | None = None
    held_for: str | None = None
    failed: bool = False
    snoozed: bool = False
    crashed: bool = False
    error: AttemptError | None = None


def settlement(
    job: ClaimedJob, owner: str, outcome: Outcome, times: Times, retention: Retention
) -> Settlement:
    """Return what is to be written for an outcome.

    Args:
        job: The job as it was claimed.
        owner: The process that attempted it.
        outcome: What the attempt came to.
        times: When it started and ended.
        retention: How long a finished job is kept.
    """
    if isinstance(outcome, Succeeded):
        return succeeded(job, owner, outcome, times, retention.keep(JobState.SUCCEEDED))
    after = _next(outcome, times.ended_at)
    finished = after.state in FINISHED
    return Settlement(
        id=job.id,
        number=job.attempt,
        owner=owner,
        state=after.state,
        outcome=after.outcome,
        started_at=times.started_at,
        ended_at=times.ended_at,
        due_at=after.due_at,
        result=after.result,
        reason=after.reason,
        held_for=after.held_for,
        failures=job.failures + after.failed,
        # A suspect that came to an end is acquitted.
        crashes=job.crashes + after.crashed if after.crashed or job.crashes < SUSPECT_AFTER else 0,
        snoozes=job.snoozes + after.snoozed,
        error=_placed(after.error, job.task),
        finished_at=times.ended_at if finished else None,
        prune_at=times.ended_at + retention.keep(after.state) if finished else None,
        leads=job.leads,
    )


def succeeded(
    job: ClaimedJob, owner: str, outcome: Succeeded, times: Times, keep: float
) -> Settlement:
    """Return the same for what nearly all outcomes are, at a third of the price.

    Args:
        job: The job as it was claimed.
        owner: The process that attempted it.
        outcome: What the function returned.
        times: When the attempt started and ended.
        keep: Seconds that a job that has succeeded is kept.
    """
    # A suspect that came to an end is acquitted.
    crashes = job.crashes if job.crashes < SUSPECT_AFTER else 0
    started, ended = times
    return Settlement(
        job.id, job.attempt, owner, JobState.SUCCEEDED, "succeeded", started, ended, None,
        outcome.result, outcome.reason, None, job.failures, crashes, job.snoozes, None, ended,
        ended + keep, job.leads,
    )  # fmt: skip  # one field after another


def noted(row: Settlement, block: LoopBlock) -> Settlement:
    """Return the same with a note that the attempt blocked the event loop, and where."""
    error = row.error
    if error is not None:
        stack = f"{error.traceback or ''}\n{block.sentence}\n{block.stack}"
        error = replace(error, traceback=stack)
    if row.state is JobState.SUCCEEDED:
        reason = f"{block.sentence} {row.reason or ''}".rstrip()
    else:
        reason = f"{(row.reason or '').rstrip('.')}. {block.sentence}".removeprefix(". ")
    return row._replace(reason=reason, error=error)


def _placed(error: AttemptError | None, task: str) -> AttemptError | None:
    """Return an error that is known to come from somewhere: at least from its task."""
    return error if error is None or error.place else replace(error, place=task)


def _next(outcome: _Others, now: float) -> _Next:
    match outcome:
        case RetryLater(delay, error):
            why = f"{error.type}: {error.message}"
            return _Next(
                JobState.QUEUED, "retry", due_at=now + delay, reason=why, failed=True, error=error
            )
        case Snoozed(delay, reason):
            return _Next(
                JobState.QUEUED, "snoozed", due_at=now + delay, reason=reason or None, snoozed=True
            )
        case Failed(reason, error):
            return _Next(JobState.FAILED, "failed", reason=reason, failed=True, error=error)
        case Cancelled(reason):
            return _Next(JobState.CANCELLED, "cancelled", reason=reason)
        case Expired(reason, error):
            return _Next(JobState.EXPIRED, "expired", reason=reason, error=error)
        case Held(reason, held_for):
            return _Next(JobState.HELD, "held", reason=reason, held_for=held_for)
        case Crashed(state, reason, error):
            kept = "crash" if state is JobState.HELD else None
            due_at = now if state is JobState.QUEUED else None
            return _Next(state, "crashed", due_at, None, reason, kept, crashed=True, error=error)
        case Interrupted():
            return _Next(JobState.QUEUED, "interrupted", reason="The process was stopped.")
