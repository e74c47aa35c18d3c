"""What a running task can know and say about its own job.

What lives here: `JobContext`, given to a function that has a parameter annotated with it, and
`Original`, the objects of the call itself. What does not: anything that is stored. Used by the
actions.
"""

from __future__ import annotations

import threading
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

__all__ = ["JobCancelled", "JobContext", "Original"]


class JobCancelled(Exception):
    """Raised by `JobContext.check()` in a task whose job was cancelled or whose time is over."""


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
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def stopping(self) -> bool:
        """Whether the function should stop: cancelled, timed out, or the process is going down."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise `JobCancelled` when the function should stop; for loops in sync functions."""
        if self._stopped.is_set():
            raise JobCancelled(f"job {self.job_id} was told to stop")

    def stop(self) -> None:
        """Tell the function to stop; called by the worker."""
        self._stopped.set()


@dataclass(frozen=True, slots=True)
class Original:
    """The very objects of a call, for the first attempt in the process that reserved the job."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context
