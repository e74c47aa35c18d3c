"""Suspects: one at a time, and none right after a death.

What lives here: when the next one may start. What does not: claiming it, which the worker's tests
show.
"""

from __future__ import annotations

from embedded_tasks.suspects import Suspects
from tests.support.clock import FakeClock


class PassingClock(FakeClock):
    """A clock that goes on while it is read, as real ones do."""

    def now(self) -> float:
        self.advance(1e-6)
        return super().now()


def test_a_suspect_may_start_a_second_after_the_last_death_and_not_before() -> None:
    clock = PassingClock()
    suspects = Suspects(clock, lambda job_id: None, lambda: None)
    assert suspects.next_start == 0
    suspects.rest()
    clock.advance(0.9)
    assert suspects.next_start > clock.now()
    clock.advance(0.2)
    assert suspects.next_start <= clock.now()
    suspects.rest()
    assert suspects.next_start > clock.now()


def test_one_that_the_next_death_would_convict_rests_for_longer() -> None:
    clock = PassingClock()
    suspects = Suspects(clock, lambda job_id: None, lambda: None)
    assert suspects.next_last_chance == 0
    suspects.rest()
    clock.advance(1.7)
    assert suspects.next_start <= clock.now() < suspects.next_last_chance
    clock.advance(0.2)
    assert suspects.next_last_chance <= clock.now()


def test_when_the_suspect_has_ended_the_next_one_may_start() -> None:
    told: list[str] = []
    suspects = Suspects(FakeClock(), told.append, lambda: told.append("next"))
    suspects.started("one")
    runs = [suspects.none_runs]
    for job_id in ("another", "one"):
        suspects.ended(job_id)
        runs.append(suspects.none_runs)
    assert runs == [False, False, True]
    assert told == ["next"]
