"""What a running task can know and say about its own job.

What lives here: `JobContext`, given to a function that has a parameter annotated with it, and
`Original`, the objects of the call itself. What does not: anything that is stored. Used by the
actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from embedded_tasks.job import ClaimedJob

__all__ = [
    "RUNNING_JOB",
    "Flag",
    "JobCancelled",
    "JobContext",
    "NotesPort",
    "Original",
    "enter_job",
    "present_context",
]

RUNNING_JOB: Final[ContextVar[ClaimedJob | None]] = ContextVar("embedded_tasks_job", default=None)
"""The job whose code this is, in the function itself and in all that it starts."""


class NotesPort(Protocol):
    """Where a job's progress and log lines go; may be called from any thread."""

    def progress(
        self, job_id: str, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        """Take a job's progress."""
        ...

    def log(
        self, job_id: str, attempt: int, level: str, text: str, fields: Mapping[str, object]
    ) -> None:
        """Take a line of a job's log."""
        ...


class JobCancelled(Exception):
    """Raised by `JobContext.check()` in a task whose job was cancelled or whose time is over."""


class Flag:
    """Whether a job was told to stop: looked at, and never waited for."""

    # Not set one by one for each job.
    is_set: bool = False

    def set(self) -> None:
        """Set it, once and for all."""
        self.is_set = True


@dataclass(slots=True, frozen=True, kw_only=True)
class JobContext:
    """The job that a task is working on.

    Args:
        job_id: The job's id.
        task: The task's name.
        attempt: The number of this attempt, from 1.
        failures: How many attempts have failed before.
        crashes: How many attempts ended with their process.
        queue: The job's queue.
        request_id: The id of the request that enqueued the job, if it had one.

    Example:
        ```python
        from embedded_tasks import JobContext

        def export_rows(ctx: JobContext, rows: list[int]) -> int:
            for row in rows:
                ctx.check()  # stop here when the job was cancelled
            return len(rows)
        ```
    """

    job_id: str
    task: str
    attempt: int
    failures: int = 0
    crashes: int = 0
    queue: str = "default"
    request_id: str | None = None
    _stopped: Flag = field(default_factory=Flag, repr=False)
    _notes: NotesPort | None = field(default=None, repr=False)

    @classmethod
    def of(cls, job: ClaimedJob, notes: NotesPort | None, stopped: Flag) -> JobContext:
        """Return the context of an attempt; called by the worker, for whoever wants one."""
        return cls(
            job_id=job.id,
            task=job.task,
            attempt=job.attempt,
            failures=job.failures,
            crashes=job.crashes,
            queue=job.queue,
            request_id=job.request_id,
            _stopped=stopped,
            _notes=notes,
        )

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the job has come; from the loop, a thread or a child process alike.

        Cheap: at most two writes a second, whatever is told in between, and the last one is kept.

        Args:
            done: How much is done.
            total: Of how much, if that is known.
            message: In words; the first 500 characters are kept.

        Example:
            `ctx.progress(400, 1000, "rows")`
        """
        if self._notes is not None:
            self._notes.progress(self.job_id, self.attempt, done, total, message)

    def log(self, text: str, *, level: str = "info", **fields: object) -> None:
        """Keep a line in the job's own log; the newest 64 KiB of each job are kept.

        Args:
            text: What to say.
            level: Such as "info" (default) or "warning".
            fields: Named values. What is named like a secret is masked where it is shown.

        Example:
            `ctx.log("sent", receiver=address)`
        """
        if self._notes is not None:
            self._notes.log(self.job_id, self.attempt, level, text, fields)

    @property
    def stopping(self) -> bool:
        """Whether the function should stop: cancelled, timed out, or the process is going down."""
        return self._stopped.is_set

    def check(self) -> None:
        """Raise `JobCancelled` when the function should stop; for loops in sync functions."""
        if self._stopped.is_set:
            raise JobCancelled(f"job {self.job_id} was told to stop")

    def stop(self) -> None:
        """Tell the function to stop; called by the worker."""
        self._stopped.set()


_INSIDE: Final[ContextVar[tuple[ClaimedJob, NotesPort | None, Flag] | None]] = ContextVar(
    "embedded_tasks_context", default=None
)


def _log_variables() -> tuple[ContextVar[Any], ...]:
    bound = Context().run(
        structlog.contextvars.bind_contextvars, job_id="", task="", attempt=0, request_id=""
    )
    return tuple(token.var for token in bound.values())


# Where structlog keeps what it adds to each line: set here, one by one, at a third of the price.
_JOB_ID, _TASK, _ATTEMPT, _REQUEST_ID = _log_variables()


def enter_job(job: ClaimedJob, notes: NotesPort | None, stopped: Flag) -> None:
    """Let this context be a job's: what runs in it knows of it, and so do its log lines."""
    RUNNING_JOB.set(job)
    _INSIDE.set((job, notes, stopped))
    _JOB_ID.set(job.id)
    _TASK.set(job.task)
    _ATTEMPT.set(job.attempt)
    if job.request_id is not None:
        _REQUEST_ID.set(job.request_id)


def present_context() -> JobContext | None:
    """Return the context of the job whose code this is, or that has started this code."""
    inside = _INSIDE.get()
    return None if inside is None else JobContext.of(*inside)


@dataclass(slots=True)
class Original:
    """The very objects of a call, for the first attempt in the process that reserved the job."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context
