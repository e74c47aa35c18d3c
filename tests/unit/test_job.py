"""The words of a job: states, and what people see of them.

What lives here: `embedded_tasks/job.py`. What does not: transitions as SQL makes them
(`test_store_queries.py`). Called by pytest.
"""

from __future__ import annotations

import pytest

from embedded_tasks.job import FINISHED, TRANSITIONS, JobState, ShownState, shown_state


def test_shown_states_are_the_stored_ones_and_two_more() -> None:
    stored, shown = {state.value for state in JobState}, {state.value for state in ShownState}
    assert shown - stored == {"scheduled", "retrying"}
    assert stored < shown


@pytest.mark.parametrize(
    ("state", "due_at", "attempt", "shown"),
    [
        (JobState.QUEUED, 100.0, 0, ShownState.QUEUED),
        (JobState.QUEUED, 100.001, 0, ShownState.SCHEDULED),
        (JobState.QUEUED, 50.0, 1, ShownState.RETRYING),
        (JobState.QUEUED, 500.0, 2, ShownState.RETRYING),
        (JobState.RUNNING, 500.0, 2, ShownState.RUNNING),
        (JobState.HELD, 500.0, 2, ShownState.HELD),
    ],
)
def test_queued_is_told_apart_by_due_time_and_attempts(
    state: JobState, due_at: float, attempt: int, shown: ShownState
) -> None:
    assert shown_state(state, due_at, attempt, now=100.0) is shown


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_finished_job_leaves_its_state_only_by_a_retry_by_hand(state: JobState) -> None:
    leaving = {
        name for name, arrows in TRANSITIONS.items() if any(start is state for start, _ in arrows)
    }
    assert leaving == {"retry"}


def test_every_state_can_be_reached_and_left() -> None:
    arrows = {arrow for arrows in TRANSITIONS.values() for arrow in arrows}
    assert {end for _, end in arrows} == set(JobState)
    assert {start for start, _ in arrows} == set(JobState) | {None}


def test_a_running_job_is_never_taken_away_by_claim_expiry_or_cancellation() -> None:
    from_running = {
        name
        for name, arrows in TRANSITIONS.items()
        if any(start is JobState.RUNNING for start, _ in arrows)
    }
    assert from_running == {"release", "settle", "recover"}
