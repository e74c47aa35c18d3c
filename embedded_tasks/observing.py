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
from embedded_tasks.logs import LogObserver
from embedded_tasks.secrecy import Secrecy
from embedded_tasks.settings import Settings
from embedded_tasks.settler import SettlerHooks

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
        settings: The runner's, which name the observers and further secrets.
        parameters_of: Returns the names of a task's positional parameters, None where not known.
        get: Returns what is stored of a job.
    """

    def __init__(
        self,
        settings: Settings,
        parameters_of: Callable[[str], Sequence[str] | None],
        get: Callable[[str], Awaitable[JobRecord | None]],
    ) -> None:
        log = LogObserver(successes=settings.log_successes)
        self._hears_successes = settings.log_successes or bool(settings.observers)
        self._observers: Sequence[Observer] = (log, *settings.observers)
        self._secrecy = Secrecy(settings.secrets, parameters_of)
        self._get = get

    def observe(self, event: JobEvent) -> None:
        """Tell every observer of an event."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001  # an observer is anybody's code
                _log.exception("observer.failed", event_name=event.name.value)

    def hooks(
        self, settled: Callable[[list[str]], None], queued: Callable[[float], None]
    ) -> SettlerHooks:
        """Return the hooks of a settler whose outcomes are told here."""
        masked, hears = self._secrecy.masked, self._hears_successes
        return SettlerHooks(settled, queued, self.observe, masked, hear_of_success=hears)

    async def ended_elsewhere(self, ids: list[str]) -> None:
        """Tell of jobs that ended, or were held, with no attempt of ours."""
        for job_id in ids[:_MOST_TOLD]:
            job = await self._get(job_id)
            name = _TOLD.get(job.state) if job is not None else None
            if job is not None and name is not None:
                details = {"reason": job.reason}
                event = JobEvent(name, job.id, job.task, job.attempt, job.request_id, details)
                self.observe(self._secrecy.masked(event, job.args or ""))

    def stuck(self, attempt: Attempt) -> None:
        """Tell of an attempt that was given up while its function goes on."""
        job = attempt.job
        details = {"reason": "its function ignores that it was stopped and still runs"}
        self.observe(
            JobEvent(EventName.ABANDONED, job.id, job.task, job.attempt, job.request_id, details)
        )
