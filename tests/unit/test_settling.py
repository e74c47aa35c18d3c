"""Outcomes as the store writes them: states, counters and times.

What lives here: `embedded_tasks/settling.py`. What does not: the writing (`test_settler.py`).
Called by pytest.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest

from embedded_tasks.config import Retention
from embedded_tasks.events import EventName
from embedded_tasks.job import (
    FINISHED,
    TRANSITIONS,
    AttemptError,
    Cancelled,
    ClaimedJob,
    Crashed,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    Outcome,
    RetryLater,
    Settlement,
    Snoozed,
    Succeeded,
)
from embedded_tasks.settling import EVENT_OF, Times, settlement
from tests.support.jobs import ME, claimed_job, job_id

ERROR = AttemptError("ValueError", "bad", "Traceback")
KEEP = Retention(succeeded=1, failed=2, cancelled=3, expired=4)
BEFORE = {"failures": 2, "crashes": 1, "snoozes": 4}

CASES: list[tuple[Outcome, dict[str, Any]]] = [
    (Succeeded("[1,5]"), {"state": "succeeded", "result": "[1,5]", "prune_at": 111.0}),
    (Succeeded(None, "odd"), {"state": "succeeded", "result": None, "reason": "odd"}),
    (
        RetryLater(30, ERROR),
        {"state": "queued", "outcome": "retry", "due_at": 140.0, "failures": 3, "error": ERROR,
         "reason": "ValueError: bad"},
    ),
    (Snoozed(5, "soon"), {"state": "queued", "due_at": 115.0, "snoozes": 5, "reason": "soon"}),
    (Snoozed(5, ""), {"state": "queued", "outcome": "snoozed", "reason": None, "snoozes": 5}),
    (Failed("bad", ERROR), {"state": "failed", "failures": 3, "error": ERROR, "prune_at": 112.0}),
    (Failed("bad", None), {"state": "failed", "reason": "bad", "error": None, "failures": 3}),
    (Cancelled("no"), {"state": "cancelled", "reason": "no", "prune_at": 113.0}),
    (Expired("late", ERROR), {"state": "expired", "reason": "late", "prune_at": 114.0}),
    (Held("gone", "arguments"), {"state": "held", "reason": "gone", "held_for": "arguments"}),
    (
        Crashed(JobState.QUEUED, "dead", ERROR),
        {"state": "queued", "outcome": "crashed", "due_at": 110.0, "crashes": 2},
    ),
    (
        Crashed(JobState.HELD, "dead", ERROR),
        {"state": "held", "held_for": "crash", "crashes": 2, "reason": "dead"},
    ),
    (Crashed(JobState.FAILED, "dead", ERROR), {"state": "failed", "crashes": 2, "prune_at": 112.0}),
    (Interrupted(), {"state": "queued", "outcome": "interrupted", "due_at": None}),
]  # fmt: skip  # a table


def write(outcome: Outcome, job: ClaimedJob | None = None) -> Settlement:
    job = job or claimed_job(7, attempt=3, leads=True, **BEFORE)
    return settlement(job, ME, outcome, Times(100.0, 110.0), KEEP)


@pytest.mark.parametrize(("outcome", "wanted"), CASES)
def test_an_outcome_is_written_with_its_state_counters_and_times(
    outcome: Outcome, wanted: dict[str, Any]
) -> None:
    row = write(outcome)
    assert {name: getattr(row, name) for name in wanted} == wanted
    for counter, before in BEFORE.items():
        assert getattr(row, counter) == wanted.get(counter, before), counter


@pytest.mark.parametrize(("outcome", "wanted"), CASES)
def test_every_outcome_is_guarded_and_timed(outcome: Outcome, wanted: dict[str, Any]) -> None:
    row = write(outcome)
    assert (row.id, row.number, row.owner, row.leads) == (job_id(7), 3, ME, True)
    assert (row.started_at, row.ended_at) == (100.0, 110.0)
    finished = row.state in FINISHED
    assert (row.finished_at, row.prune_at is None) == ((110.0 if finished else None), not finished)


def test_what_did_not_succeed_says_why() -> None:
    for outcome, _ in CASES:
        row = write(outcome)
        if row.state in FINISHED | {JobState.HELD} and row.state is not JobState.SUCCEEDED:
            assert row.reason


def test_outcomes_make_exactly_the_transitions_of_settle() -> None:
    made = {(JobState.RUNNING, write(outcome).state) for outcome, _ in CASES}
    assert made == TRANSITIONS["settle"]


def test_every_outcome_is_in_the_table_and_has_an_event() -> None:
    assert {type(outcome) for outcome, _ in CASES} == set(get_args(Outcome)) == set(EVENT_OF)
    assert len(set(EVENT_OF.values())) == len(EVENT_OF)
    assert set(EVENT_OF.values()) < set(EventName)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (2, 0), (3, 0)])
def test_a_suspect_that_came_to_an_end_is_acquitted(before: int, after: int) -> None:
    assert write(Succeeded("null"), claimed_job(crashes=before)).crashes == after


def test_a_suspect_whose_child_dies_is_not_acquitted() -> None:
    crashed = Crashed(JobState.QUEUED, "dead", ERROR)
    assert write(crashed, claimed_job(crashes=2)).crashes == 3
