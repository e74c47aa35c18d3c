"""What operators do: pause and resume queues, retry, cancel, run now, delete, one or many.

What lives here: `Control`, which writes down who did what. What does not: who may; that is the
door's. Reached as `runner.control`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from embedded_tasks.clock import Clock
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.reported import AuditPage
from embedded_tasks.session import Session
from embedded_tasks.store import JobFilter

__all__ = ["BULK_CAP", "Action", "BulkReport", "Control"]

BULK_CAP: Final = 1_000
"""How many jobs one bulk action changes at most, unless told otherwise."""


class Action(StrEnum):
    """What can be done to a job."""

    RETRY = "retry"
    """Queue a finished or held job again."""
    CANCEL = "cancel"
    """Cancel a waiting, held or running job."""
    RUN_NOW = "run_now"
    """Make a scheduled or retrying job due now."""
    DELETE = "delete"
    """Remove a finished or held job with all that is known of it."""


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What a bulk action did, or would do.

    Args:
        matched: How many jobs the filter or the ids meant whose state allows the action.
        changed: How many were changed; 0 for a dry run.
        capped: Whether there are more than the cap; the rest is as it was.
        dry_run: Whether nothing was changed.
    """

    matched: int
    changed: int
    capped: bool
    dry_run: bool = False


class Control:
    """Acts on jobs and queues, and keeps who did what.

    Args:
        session: Returns the running session; raises `NotStartedError` when there is none.
        clock: Where the time comes from.
    """

    def __init__(self, session: Callable[[str], Session], clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def pause(self, queue: str, *, by: str | None = None) -> bool:
        """Keep the jobs of a queue from starting, in all processes, until it is resumed.

        Jobs that run go on. New ones are stored as always, and wait.

        Args:
            queue: Its name; it need not have jobs yet.
            by: Who does it, for the audit.

        Returns:
            Whether it was not paused before.

        Raises:
            ConfigurationError: No queue can have this name.

        Example:
            `await runner.control.pause("mail", by="ada")`
        """
        raise NotImplementedError

    async def resume(self, queue: str, *, by: str | None = None) -> bool:
        """Let the jobs of a queue start again; return whether it was paused."""
        raise NotImplementedError

    async def retry(self, job_id: str, *, by: str | None = None) -> None:
        """Queue a finished or held job again.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It is queued or running.
        """
        raise NotImplementedError

    async def cancel(
        self,
        job_id: str,
        *,
        by: str | None = None,
        reason: str = "It was cancelled by an operator.",
    ) -> CancelAnswer:
        """Cancel a job: at once if it waits, as far as that can be done if it runs.

        Raises:
            JobNotFoundError: No job has this id.
        """
        raise NotImplementedError

    async def run_now(self, job_id: str, *, by: str | None = None) -> None:
        """Make a scheduled or retrying job due now.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It does not wait for its time.
        """
        raise NotImplementedError

    async def delete(self, job_id: str, *, by: str | None = None) -> None:
        """Remove a finished or held job, with its attempts, progress and log.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It is queued or running; cancel it first.
        """
        raise NotImplementedError

    async def bulk(
        self,
        action: Action | str,
        chosen: JobFilter | Sequence[str],
        *,
        dry_run: bool = False,
        cap: int = BULK_CAP,
        by: str | None = None,
    ) -> BulkReport:
        """Do the same to many jobs, in batches that let other writers in between.

        Args:
            action: What to do; jobs whose state does not allow it are left alone.
            chosen: A filter (its `before` and `limit` do not count), or ids.
            dry_run: Only count.
            cap: How many jobs at most (1 to 100,000).
            by: Who does it, for the audit: one entry, with the filter and the count.

        Raises:
            ConfigurationError: There is no such action, or the cap is out of range.

        Example:
            `await runner.control.bulk("retry", JobFilter(group=group.id), dry_run=True)`
        """
        raise NotImplementedError

    async def audit(self, *, before: int | None = None, limit: int = 50) -> AuditPage:
        """Return what operators did, newest first; the newest 10,000 entries are kept."""
        raise NotImplementedError
