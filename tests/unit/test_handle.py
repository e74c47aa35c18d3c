"""A job as its enqueuer holds it, and what its result gives.

What lives here: `embedded_tasks/handle.py` and `embedded_tasks/results.py`. What does not: waiting
(`test_waiting.py`). Called by pytest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedded_tasks.errors import (
    ConfigurationError,
    JobCancelledError,
    JobEndedError,
    JobExpiredError,
    JobFailedError,
    JobHeldError,
    NotDurableError,
)
from embedded_tasks.handle import CancelAnswer, Job
from embedded_tasks.job import AttemptError, AttemptRecord, JobRecord, JobState, ShownState
from embedded_tasks.results import result_of

pytestmark = pytest.mark.anyio


def record(state: JobState = JobState.QUEUED, **changes: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": "1", "task": "shop:send", "state": state, "shown": ShownState(state.value),
        "queue": "default", "tags": (), "priority": 0, "args": "[]", "attempt": 1, "failures": 0,
        "crashes": 0, "snoozes": 0, "created_at": 0.0, "due_at": 1_800_000_000.0,
        "started_at": None, "finished_at": None, "start_by": None, "finish_by": None,
        "on_crash": "retry", "result": None, "reason": None, "owner": None,
        "cancel_requested": False, "request_id": None, "traceparent": None, "options": None,
        "held_for": None,
    }  # fmt: skip  # all columns
    return JobRecord(**values | changes)


@dataclass
class Port:
    """A runner that remembers what it was asked."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    record: JobRecord = field(default_factory=record)

    async def fetch(self, job_id: str) -> JobRecord:
        self.asked.append(("fetch", job_id))
        return self.record

    async def wait_for_result(self, job_id: str, timeout: float | None) -> Any:
        self.asked.append(("result", job_id, timeout))
        return 42

    async def cancel(self, job_id: str, *, reason: str = "") -> CancelAnswer:
        self.asked.append(("cancel", job_id, reason))
        return CancelAnswer.TOLD

    async def retry(self, job_id: str) -> None:
        self.asked.append(("retry", job_id))


async def test_a_fresh_handle_knows_its_id_and_that_the_job_is_queued() -> None:
    job: Job[int] = Job("1", "shop:send", Port())
    assert (job.id, job.task, job.state) == ("1", "shop:send", "queued")
    assert (job.record, job.reason, job.attempts, job.due_at) == (None, None, (), None)
    assert repr(job) == "<Job 1 shop:send queued>"


async def test_refreshing_reads_the_job_into_the_same_handle() -> None:
    attempt = AttemptRecord(number=1, outcome="failed", started_at=1.0, ended_at=2.0)
    port = Port(record=record(JobState.FAILED, reason="bad", attempts=(attempt,)))
    job: Job[int] = Job("1", "shop:send", port)
    assert await job.refresh() is job
    assert (job.state, job.reason, job.attempts) == ("failed", "bad", (attempt,))
    assert job.due_at == datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.mark.parametrize(("given", "asked"), [(None, None), (5, 5.0), (timedelta(minutes=1), 60.0)])
async def test_a_result_is_waited_for_as_long_as_was_said(given: Any, asked: float | None) -> None:
    port = Port()
    assert await Job("1", "shop:send", port).result(timeout=given) == 42
    assert port.asked == [("result", "1", asked)]


async def test_a_limit_that_is_no_duration_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        await Job("1", "shop:send", Port()).result(timeout=-1)


async def test_cancel_and_retry_are_the_runner_s() -> None:
    port = Port()
    job: Job[int] = Job("1", "shop:send", port)
    assert await job.cancel() is CancelAnswer.TOLD
    await job.cancel(reason="a duplicate")
    await job.retry()
    assert port.asked == [
        ("cancel", "1", "It was cancelled."),
        ("cancel", "1", "a duplicate"),
        ("retry", "1"),
    ]


# What a result is.


def test_a_result_is_decoded() -> None:
    assert result_of(record(JobState.SUCCEEDED, result="[5]"), json.loads) == [5]


def test_a_result_that_could_not_be_stored_says_so() -> None:
    kept = record(JobState.SUCCEEDED, reason="it is a lock")
    with pytest.raises(NotDurableError, match=r"result of shop:send \(job 1\).*it is a lock"):
        result_of(kept, json.loads)


ERRORS = [
    (JobState.FAILED, JobFailedError),
    (JobState.CANCELLED, JobCancelledError),
    (JobState.EXPIRED, JobExpiredError),
    (JobState.HELD, JobHeldError),
]


@pytest.mark.parametrize(("state", "error"), ERRORS)
def test_each_end_without_a_result_has_its_error(
    state: JobState, error: type[JobEndedError]
) -> None:
    attempts = (
        AttemptRecord(number=1, outcome="retry", started_at=0.0, ended_at=1.0,
                      error=AttemptError("KeyError", "first", "Traceback 1")),
        AttemptRecord(number=2, outcome="failed", started_at=2.0, ended_at=3.0,
                      error=AttemptError("ValueError", "second", "Traceback 2")),
        AttemptRecord(number=3, outcome="interrupted", started_at=4.0, ended_at=5.0),
    )  # fmt: skip  # a table
    with pytest.raises(error) as caught:
        result_of(record(state, reason="because", attempts=attempts), json.loads)
    assert type(caught.value) is error
    found = caught.value
    assert (found.job_id, found.task, found.reason) == ("1", "shop:send", "because")
    assert (found.error_type, found.traceback) == ("ValueError", "Traceback 2")
    assert str(found) == "shop:send (job 1): because"


def test_an_end_without_attempts_has_no_error_class() -> None:
    with pytest.raises(JobCancelledError) as caught:
        result_of(record(JobState.CANCELLED, reason="no need"), json.loads)
    assert (caught.value.error_type, caught.value.traceback) == (None, None)


def test_a_job_that_has_not_ended_has_no_result() -> None:
    with pytest.raises(JobEndedError, match="it is queued"):
        result_of(record(JobState.QUEUED), json.loads)
