"""What `Job.result()` gives: the decoded value, or the error that says why there is none.

What lives here: that mapping. What does not: waiting. Called by the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedded_tasks.errors import (
    JobCancelledError,
    JobEndedError,
    JobExpiredError,
    JobFailedError,
    JobHeldError,
    NotDurableError,
)
from embedded_tasks.job import JobRecord, JobState

__all__ = ["result_of"]

_ERRORS: dict[JobState, type[JobEndedError]] = {
    JobState.FAILED: JobFailedError,
    JobState.CANCELLED: JobCancelledError,
    JobState.EXPIRED: JobExpiredError,
    JobState.HELD: JobHeldError,
}


def result_of(record: JobRecord, decode: Callable[[str], Any]) -> Any:
    """Return the result of a job that has ended.

    Raises:
        JobEndedError: It has none.
        NotDurableError: It had one that could not be stored.
    """
    if record.state is JobState.SUCCEEDED:
        if record.result is None:
            # The stored reason is a whole sentence, as the job's page shows it.
            reason = (record.reason or "").rpartition(" cannot be stored: ")[2].rstrip(".")
            raise NotDurableError(
                f"The result of {record.task} (job {record.id})",
                reason or "its value was not kept",
            )
        return decode(record.result)
    error = next((a.error for a in reversed(record.attempts) if a.error is not None), None)
    raise _ERRORS.get(record.state, JobEndedError)(
        record.id,
        record.task,
        record.reason or f"it is {record.state}",
        error_type=error.type if error else None,
        traceback=error.traceback if error else None,
    )
