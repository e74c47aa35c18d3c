"""Plain values of jobs, with everything that a test does not care for filled in.

What lives here: `job_id`, `new_job`, `claimed_job` and `settled`. What does not: the store. Called
by tests of the store and of whatever takes a claimed job.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from embedded_tasks.config import Retention
from embedded_tasks.job import ClaimedJob, NewJob, Outcome, Settlement
from embedded_tasks.settling import Times, settlement

__all__ = ["ME", "NOW", "OTHER", "claimed_job", "job_id", "new_job", "running_job", "settled"]

NOW = 1_800_000_000.0
ME, OTHER = "a" * 32, "b" * 32


def job_id(number: int) -> str:
    return str(UUID(int=number))


def new_job(number: int, **changes: Any) -> NewJob:
    """Return a queued job that is due now; `owner=` alone reserves it."""
    values: dict[str, Any] = {
        "id": job_id(number),
        "task": "shop:send",
        "args": "[[],{}]",
        "due_at": NOW,
        "created_at": NOW,
    }
    return NewJob(**values | changes)


def running_job(number: int, **changes: Any) -> NewJob:
    """Return a job that is stored as running here, in its first attempt."""
    return new_job(number, **{"owner": ME, "attempt": 1} | changes)


def claimed_job(number: int = 1, **changes: Any) -> ClaimedJob:
    values: dict[str, Any] = {
        "id": job_id(number),
        "task": "shop:send",
        "attempt": 1,
        "args": "[[],{}]",
    }
    return ClaimedJob(**values | changes)


def settled(
    job: ClaimedJob, outcome: Outcome, *, owner: str = ME, at: float = NOW + 1
) -> Settlement:
    """Return what is written when this job's attempt comes to this outcome."""
    return settlement(job, owner, outcome, Times(NOW, at), Retention())
