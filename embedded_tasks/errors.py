"""Every exception and warning of the package, and nothing else.

What lives here: the error tree. What does not: the exceptions by which a task steers its own
job (`Retry`, `Snooze`), which are in `retry.py`. Every layer raises from here.

    EmbeddedTasksError
    ├── ConfigurationError (ValueError)       an option or a call that can never work
    ├── NotStartedError (RuntimeError)        the runner is not running
    ├── NotDurableError (TypeError)           a callable or an argument that cannot be stored
    │   └── PayloadTooLargeError
    ├── ArgumentsError (TypeError)            arguments that do not fit the function
    ├── PayloadError                          a stored payload that this code cannot read
    ├── UnknownTaskError (LookupError)        a stored task name that this code does not have
    ├── StoreError
    │   ├── StoreUnavailableError             busy, full, read-only, or too slow: try again
    │   └── StoreFormatError                  a newer, foreign or damaged file
    ├── QueueFullError                        more jobs wait than `max_queued` allows
    ├── JobNotFoundError (LookupError)
    ├── JobStateError                         the job's state does not allow that
    ├── ResultTimeoutError (TimeoutError)     `result(timeout=...)` has passed; the job goes on
    └── JobEndedError                         the job has no result and says why
        ├── JobFailedError
        ├── JobCancelledError
        ├── JobExpiredError
        └── JobHeldError

    NotDurableWarning (UserWarning)           an `add_task` that runs as plain BackgroundTasks do
    NotInstalledWarning (UserWarning)         a mounted app whose BackgroundTasks are not durable
"""

from __future__ import annotations

__all__ = [
    "ArgumentsError",
    "ConfigurationError",
    "EmbeddedTasksError",
    "JobCancelledError",
    "JobEndedError",
    "JobExpiredError",
    "JobFailedError",
    "JobHeldError",
    "JobNotFoundError",
    "JobStateError",
    "NotDurableError",
    "NotDurableWarning",
    "NotInstalledWarning",
    "NotStartedError",
    "PayloadError",
    "PayloadTooLargeError",
    "QueueFullError",
    "ResultTimeoutError",
    "StoreError",
    "StoreFormatError",
    "StoreUnavailableError",
    "UnknownTaskError",
]


class EmbeddedTasksError(Exception):
    """Root of everything that this package raises."""


class ConfigurationError(EmbeddedTasksError, ValueError):
    """An option or a call that can never work; the message says what to write instead."""


class NotStartedError(EmbeddedTasksError, RuntimeError):
    """A job was handed to a runner that is not running."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what}: the runner is not running, so nothing would be stored. Use "
            "runner.install(app) and start the app with its lifespan (in tests: "
            '"with TestClient(app) as client:"), or "async with runner:" / "with runner:".'
        )


class NotDurableError(EmbeddedTasksError, TypeError):
    """A callable or an argument that cannot be stored.

    Args:
        where: The path of the value, such as `send_mail` or `send_mail(..., session=)`.
        reason: Why it cannot be stored.
        remedy: What to write instead.
    """

    def __init__(self, where: str, reason: str, remedy: str = "") -> None:
        self.where = where
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{where} cannot be stored: {reason}." + (f" {remedy}" if remedy else ""))


class PayloadTooLargeError(NotDurableError):
    """The encoded arguments or result are larger than `max_payload_bytes`."""

    def __init__(self, where: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            where,
            f"it takes {size:,} bytes, over the limit of {limit:,} bytes",
            "Store the data in a file or a table and pass its path or id, or raise "
            "TaskRunner(..., max_payload_bytes=).",
        )


class ArgumentsError(EmbeddedTasksError, TypeError):
    """The arguments do not fit the function's signature or, for a decorated task, its types."""

    def __init__(self, task: str, problem: str) -> None:
        self.task = task
        self.problem = problem
        super().__init__(f"{task}: {problem}")


class PayloadError(EmbeddedTasksError):
    """A stored payload cannot be read by the code that is running now."""


class UnknownTaskError(EmbeddedTasksError, LookupError):
    """A stored task name does not lead to a function of this code."""

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        self.reason = reason
        super().__init__(f"{task}: {reason}")


class StoreError(EmbeddedTasksError):
    """The store could not do what was asked."""


class StoreUnavailableError(StoreError):
    """The store is busy, full, read-only or too slow just now; nothing was stored."""


class StoreFormatError(StoreError):
    """The file is newer than this release, not ours, or damaged; it was left as it is."""


class QueueFullError(EmbeddedTasksError):
    """More jobs would wait than `max_queued` allows; nothing was stored.

    Args:
        queue: The queue that is full, or None when the limit is for all queues together.
        waiting: How many jobs wait; counted no further than to the limit.
        limit: How many may.
        retry_after: Seconds after which there should be places, as jobs have left lately.
    """

    def __init__(self, queue: str | None, waiting: int, limit: int, retry_after: int) -> None:
        self.queue = queue
        self.waiting = waiting
        self.limit = limit
        self.retry_after = retry_after
        where = "The runner's queues are" if queue is None else f"Queue {queue!r} is"
        many = f"{waiting:,} or more" if waiting >= limit else f"{waiting:,}"
        super().__init__(
            f"{where} full: {many} jobs wait, and max_queued allows {limit:,}. Nothing was "
            f"stored. Try again in {retry_after} s; if that happens often, run more at once "
            "(concurrency=, or more processes) or raise TaskRunner(..., max_queued=)."
        )


class JobNotFoundError(EmbeddedTasksError, LookupError):
    """No job has this id; it may have been removed by retention."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"No job has the id {job_id!r}. It may have been removed by retention.")


class JobStateError(EmbeddedTasksError):
    """The job's present state does not allow what was asked."""

    def __init__(self, job_id: str, state: str, action: str) -> None:
        self.job_id = job_id
        self.state = state
        self.action = action
        super().__init__(f"Job {job_id} is {state}; it cannot be {action}.")


class ResultTimeoutError(EmbeddedTasksError, TimeoutError):
    """The result was not there in time; the job itself goes on."""

    def __init__(self, job_id: str, timeout: float) -> None:
        self.job_id = job_id
        self.timeout = timeout
        super().__init__(
            f"Job {job_id} has not finished within {timeout:g} s. It goes on; ask again later."
        )


class JobEndedError(EmbeddedTasksError):
    """The job ended without a result.

    Args:
        job_id: Its id.
        task: Its task's name.
        reason: Why, in words.
        error_type: The class of the last error, where there was one.
        traceback: The last traceback as text, where there was one.
    """

    def __init__(
        self,
        job_id: str,
        task: str,
        reason: str,
        *,
        error_type: str | None = None,
        traceback: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.reason = reason
        self.error_type = error_type
        self.traceback = traceback
        super().__init__(f"{task} (job {job_id}): {reason}")


class JobFailedError(JobEndedError):
    """The job failed for good."""


class JobCancelledError(JobEndedError):
    """The job was cancelled."""


class JobExpiredError(JobEndedError):
    """The job's time passed before it could finish."""


class JobHeldError(JobEndedError):
    """The job waits for a person or a deploy; it is not lost."""


class NotDurableWarning(UserWarning):
    """An `add_task` whose callable or arguments cannot be stored: it runs in the request, as plain
    BackgroundTasks do, and is lost when the process dies.
    """


class NotInstalledWarning(UserWarning):
    """A mounted FastAPI app whose BackgroundTasks are not durable."""
