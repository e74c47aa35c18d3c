"""Who is told of what happens to jobs.

What lives here: passing events on to the observers, and making events of what ended without an
attempt of ours. What does not: the observers. Owned by the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from embedded_tasks.attempt import Attempt
from embedded_tasks.events import EventName, JobEvent, Observer
from embedded_tasks.job import JobRecord, JobState

__all__ = ["Observing"]

_log = structlog.get_logger("embedded_tasks")

_MOST_TOLD = 1_000
_TOLD = {
    JobState.EXPIRED: EventName.EXPIRED,
    JobState.HELD: EventName.HELD,
    JobState.CANCELLED: EventName.CANCELLED,
}


class Observing:
    """Tells every observer of every event.

    Args:
        observers: Functions of anybody's; one that fails is logged.
        get: Returns what is stored of a job.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        get: Callable[[str], Awaitable[JobRecord | None]],
    ) -> None:
        self._observers = observers
        self._get = get

    def observe(self, event: JobEvent) -> None:
        """Tell every observer of an event."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # an observer is anybody's code
                _log.exception("observer.failed", event_name=event.name.value)

    async def ended_elsewhere(self, ids: list[str]) -> None:
        """Tell of jobs that ended, or were held, with no attempt of ours."""
        for job_id in ids[:_MOST_TOLD]:
            job = await self._get(job_id)
            name = _TOLD.get(job.state) if job is not None else None
            if job is not None and name is not None:
                details = {"reason": job.reason}
                self.observe(JobEvent(name, job.id, job.task, job.attempt, job.request_id, details))

    def stuck(self, attempt: Attempt) -> None:
        """Tell of an attempt that was given up while its function goes on."""
        job = attempt.job
        details = {"reason": "its function ignores that it was stopped and still runs"}
        self.observe(
            JobEvent(EventName.ABANDONED, job.id, job.task, job.attempt, job.request_id, details)
        )
