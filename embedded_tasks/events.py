"""What happened to a job, told to whoever observes.

What lives here: the event and its names. What does not: observers, which are services and extras.
Made by the services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["EventName", "JobEvent", "Observer"]


class EventName(StrEnum):
    """The constant names of all events."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    RETRY_SCHEDULED = "job.retry_scheduled"
    SNOOZED = "job.snoozed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"
    HELD = "job.held"
    INTERRUPTED = "job.interrupted"
    CRASHED = "job.crashed"
    ABANDONED = "job.abandoned"
    BLOCKED_LOOP = "job.blocked_loop"


@dataclass(slots=True, frozen=True)
class JobEvent:
    """One thing that happened to one job. It never carries arguments.

    Args:
        name: What happened.
        job_id: The job.
        task: Its task's name.
        attempt: The number of the attempt.
        request_id: The request that enqueued it.
        details: More, by name: `error_type`, `error`, `delay`, `duration`, `reason`, `traceback`.
    """

    name: EventName
    job_id: str
    task: str
    attempt: int
    request_id: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


Observer = Callable[[JobEvent], None]
"""A function that is told of every event; it must not block and its errors are logged."""
