"""What is logged of an event, and how.

What lives here: levels, names and values of the log lines. What does not: when events happen. Run
by pytest.
"""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from embedded_tasks.events import EventName, JobEvent
from embedded_tasks.logs import LogObserver

DETAILS = {"traceback": "Traceback ...", "error_type": "ValueError", "duration": 0.123456}


def logged(name: EventName, *, successes: bool = False) -> list[dict[str, object]]:
    with capture_logs() as lines:
        LogObserver(successes=successes)(JobEvent(name, "1", "shop:pay", 2, "r-7", DETAILS))
    return [dict(line) for line in lines]


def test_a_failure_is_an_error_with_its_traceback_where_structlog_looks_for_it() -> None:
    (line,) = logged(EventName.FAILED)
    assert line == {
        "event": "job.failed",
        "log_level": "error",
        "job_id": "1",
        "task": "shop:pay",
        "attempt": 2,
        "request_id": "r-7",
        "error_type": "ValueError",
        "duration": 0.1235,
        "stack": "Traceback ...",
    }


def test_a_failure_that_is_retried_says_so_without_a_traceback() -> None:
    (line,) = logged(EventName.RETRY_SCHEDULED)
    assert (line["event"], line["log_level"]) == ("job.retry_scheduled", "warning")
    assert "stack" not in line
    assert "traceback" not in line


@pytest.mark.parametrize(("successes", "lines"), [(False, 0), (True, 1)])
def test_successes_are_logged_when_asked_for(successes: bool, lines: int) -> None:
    assert len(logged(EventName.SUCCEEDED, successes=successes)) == lines
