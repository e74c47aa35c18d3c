"""Requests whose tasks could not be stored are told of, and do not flood the log.

What lives here: how often. What does not: what their clients get (`tests/web`). Run by pytest.
"""

from __future__ import annotations

from structlog.testing import capture_logs

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.sites import Refusals
from tests.support.clock import FakeClock
from tests.support.jobs import NOW


def test_a_cause_is_told_at_once_and_then_once_a_minute_with_a_count() -> None:
    clock = FakeClock(NOW)
    refusals = Refusals(clock.monotonic)
    full, locked = StoreUnavailableError("full"), StoreUnavailableError("locked")
    with capture_logs() as lines:
        for number in range(100):
            refusals.add(f"/orders/{number}", full)
        refusals.add("/orders", locked)
        clock.advance(59)
        refusals.add("/orders", full)
        clock.advance(1)
        refusals.add("/last", full)
    told = [(line["error"], line["path"], line["requests"]) for line in lines]
    assert told == [("full", "/orders/0", 1), ("locked", "/orders", 1), ("full", "/last", 101)]
    assert {line["event"] for line in lines} == {"jobs.not_stored"}


def test_causes_without_end_are_forgotten() -> None:
    refusals = Refusals(FakeClock(NOW).monotonic)
    with capture_logs() as lines:
        for number in range(1_000):
            refusals.add("/", StoreUnavailableError(str(number)))
    assert len(lines) == 1_000
    assert len(refusals._causes) == 20
