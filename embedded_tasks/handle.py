"""A job as its enqueuer holds it.

What lives here: `Job`. What does not: storage; the handle asks the runner through a port. Made by
the front door and the runner.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from embedded_tasks.clock import Duration, seconds
from embedded_tasks.job import AttemptRecord, JobRecord, Progress, ShownState

__all__ = ["CancelAnswer", "Job", "JobPort"]

R = TypeVar("R")


class CancelAnswer(StrEnum):
    """What a cancellation came to."""

    CANCELLED = "cancelled"
    """The job was not running, and will not run."""
    STOPPING = "stopping"
    """Its async function is being cancelled."""
    TOLD = "told"
    """Its sync function was told; it stops if it looks at `JobContext.stopping` or `check()`."""
    FINISHED = "finished"
    """Too late: the job had finished."""


class JobPort(Protocol):
    """What a handle asks of the runner."""

    async def fetch(self, job_id: str) -> JobRecord:
        """Return what is stored of a job."""
        ...

    async def wait_for_result(self, job_id: str, timeout: float | None) -> Any:
        """Return the job's result when it has one."""
        ...

    async def cancel(self, job_id: str, *, reason: str = ...) -> CancelAnswer:
        """Cancel a job."""
        ...

    async def retry(self, job_id: str) -> None:
        """Queue a job again."""
        ...


class Job(Generic[R]):
    """A handle on one job. Its properties say what was known when it was made or refreshed.

    Args:
        id: The job's id, a UUIDv7.
        task: Its task's name.
        port: The runner.
        record: What is stored of it, where that was read.

    Example:
        ```python
        job = await runner.enqueue(send_invoice, 42)
        receipt = await job.result(timeout=10)
        ```
    """

    __slots__ = ("_port", "_record", "id", "task")

    def __init__(self, id: str, task: str, port: JobPort, record: JobRecord | None = None) -> None:
        self.id: str = id
        self.task: str = task
        self._port = port
        self._record = record

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} {self.state}>"

    @property
    def state(self) -> ShownState:
        """The state as people see it."""
        return ShownState.QUEUED if self._record is None else self._record.shown

    @property
    def record(self) -> JobRecord | None:
        """All that was read of the job, or None if it was only enqueued."""
        return self._record

    @property
    def reason(self) -> str | None:
        """Why the job did not succeed, in words."""
        return None if self._record is None else self._record.reason

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """The attempts that have ended."""
        return () if self._record is None else self._record.attempts

    @property
    def progress(self) -> Progress | None:
        """How far it has come, if it has said so."""
        return None if self._record is None else self._record.progress

    @property
    def due_at(self) -> datetime | None:
        """When the job is due, in UTC."""
        return None if self._record is None else datetime.fromtimestamp(self._record.due_at, UTC)

    async def refresh(self) -> Job[R]:
        """Read the job again; return this same handle.

        Raises:
            JobNotFoundError: It is not there; retention may have removed it.
        """
        self._record = await self._port.fetch(self.id)
        return self

    async def result(self, timeout: Duration | None = None) -> R:
        """Return what the function returned, when it has; the caller is woken, nothing is polled.

        Args:
            timeout: Seconds or a timedelta to wait; None (default) waits for ever.

        Raises:
            JobEndedError: It failed, was cancelled, expired, or is held; says why.
            ResultTimeoutError: Not in time; the job itself goes on.
            NotDurableError: It succeeded, and what it returned could not be stored.
        """
        limit = None if timeout is None else seconds(timeout, "result(timeout=)")
        result: R = await self._port.wait_for_result(self.id, limit)
        return result

    async def cancel(self, *, reason: str = "It was cancelled.") -> CancelAnswer:
        """Cancel the job, here or in the process that runs it; the answer says what happened."""
        return await self._port.cancel(self.id, reason=reason)

    async def retry(self) -> None:
        """Queue a finished or held job again, with its counters reset and its history kept.

        Raises:
            JobStateError: It is queued or running.
        """
        await self._port.retry(self.id)
