"""A process is killed before every statement of every transition: nothing is lost, nothing stuck.

What lives here: which places are tried, and that no transition is left out. What does not: the life
of the process, the kills and what must hold (tests/crash/points). Judged by the client's log and
by the jobs' own effects.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embedded_tasks.job import TRANSITIONS
from embedded_tasks.store.queries import QUERIES
from tests.crash.points.killing import Point, each_killed, points

WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|CREATE)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    """Every place of a whole life."""
    return points(tmp_path_factory.mktemp("points") / "whole")


def test_every_statement_that_writes_is_a_crash_point(whole: list[Point]) -> None:
    """A new statement fails this: do it in a step of tests/crash/points/script.py."""
    wanted = {name for name, text in QUERIES.items() if WRITES.match(text)}
    assert {*TRANSITIONS} <= wanted
    assert wanted - {point.what for point in whole} == set()


def test_transactions_migrations_and_checkpoints_have_their_places(whole: list[Point]) -> None:
    found = {point.what for point in whole}
    assert {"turn", "BEGIN", "COMMIT", "done", "PRAGMA wal_checkpoint"} <= found
    assert {"CREATE TABLE jobs", "INSERT INTO meta"} <= {
        " ".join(point.what.split()[:3]) for point in whole if point.step == "open"
    }
    # One life does each transition between its BEGIN and its COMMIT, and tells of it afterwards.
    assert [point.what for point in whole].count("COMMIT") > 40


def test_a_kill_before_any_statement_loses_nothing(whole: list[Point], tmp_path: Path) -> None:
    """Once before each statement, and after each commit before anybody is told of it.

    Of the statements without a name, as those of migrations, once for each kind.
    """
    first = {" ".join(point.what.split()[:2]): point for point in reversed(whole)}
    told = [point for point in whole if point.what == "done"]
    chosen = {*first.values(), *told}
    print(f"\n{len(chosen)} of {len(whole)} places")
    each_killed(tmp_path, sorted(chosen, key=lambda point: point.number))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_a_kill_before_every_statement_of_a_life_loses_nothing(
    whole: list[Point], tmp_path: Path, part: int
) -> None:
    each_killed(tmp_path, whole[part::8])
