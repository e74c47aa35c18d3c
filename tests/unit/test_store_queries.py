"""The named statements and the schema: what they may do, and how they find their rows.

What lives here: transitions, query plans, CHECKs, and the pinned library's inside. What does not:
the contract of the store (`tests/store_contract`). Called by pytest.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from queue import SimpleQueue
from threading import Thread
from typing import Any

import aiosqlite
import pytest

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import FINISHED, TRANSITIONS, JobState, NewJob
from embedded_tasks.store.connection import check_version
from embedded_tasks.store.opening import prepare
from embedded_tasks.store.queries import QUERIES, execute_for_all, parse_queries, read_queries
from tests.support.jobs import ME, NOW, job_id

TEXT = read_queries()
ARROWS = re.compile(r"^(?:\w+ -> )?\w+(?:, (?:\w+ -> )?\w+)*:")
EVERY_STATE = [state.value for state in JobState]


class Anything(dict[str, Any]):
    """Parameters of any name."""

    def __missing__(self, name: str) -> None:
        return None


def anything(statement: str) -> Anything | list[None]:
    """Parameters for a statement: by name, or a row of them."""
    return [None] * statement.count("?") if "?" in statement else Anything()


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection, ":memory:", {"foreign_keys": 1})
    connection.execute("INSERT INTO tasks (id, name) VALUES (1, 'shop:send')")
    yield connection
    connection.close()


def told(name: str) -> frozenset[tuple[str, str]]:
    """Return the transitions that a query's comment tells of, such as `a -> b, c -> d: why`."""
    _, _, after = TEXT.partition(f"-- name: {name}\n")
    lines = itertools.takewhile(lambda line: line.startswith("--"), after.splitlines())
    comment = " ".join(line.removeprefix("--").strip() for line in lines)
    found: set[tuple[str, str]] = set()
    if " -> " in comment and (arrows := ARROWS.match(comment)):
        before = ""
        for part in arrows[0].removesuffix(":").split(", "):
            start, _, end = part.rpartition(" -> ")
            before = start or before
            found.add((before, end))
    return frozenset(found)


def as_text(name: str) -> frozenset[tuple[str, str]]:
    return frozenset((before or "none", after) for before, after in TRANSITIONS[name])


# Transitions.


def test_the_transitions_are_those_that_the_comments_of_the_queries_tell() -> None:
    assert {name: told(name) for name in QUERIES if told(name)} == {
        name: as_text(name) for name in TRANSITIONS
    }


def test_a_query_that_sets_a_state_says_which(database: sqlite3.Connection) -> None:
    sets_state = re.compile(r"UPDATE jobs\b.*\bstate = .*WHERE|INSERT INTO jobs\b", re.DOTALL)
    writes = {name for name, sql in QUERIES.items() if sets_state.match(sql)}
    # These change something else, and have the state in their WHERE only.
    assert writes - {"request_cancel", "acquit", "run_now"} == set(TRANSITIONS)


def add(database: sqlite3.Connection, number: int, state: str, **changes: Any) -> None:
    """Store a job in any state, owned where it may be."""
    row: dict[str, Any] = {
        "seq": number, "id": job_id(number), "task": 1, "state": state, "queue": "default",
        "priority": 0, "due_at": NOW, "created_at": NOW, "owner": None, "attempt": 1,
        "on_crash": "retry", "args": "[]", "finished_at": NOW if state in FINISHED else None,
        "reason": "x", "held_for": "unknown_task" if state == "held" else None,
    }  # fmt: skip  # all that a row needs
    if state == "running":
        row["owner"] = ME
    row |= changes
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    database.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", row)


def fill(database: sqlite3.Connection) -> dict[int, str]:
    """Store a job of each state, owned, suspected and late; return the states by number."""
    for number, state in enumerate(EVERY_STATE, start=1):
        add(database, number, state)
    add(database, 10, "queued", owner=ME)
    add(database, 11, "queued", crashes=3)
    add(database, 12, "queued", expires_at=NOW)
    database.execute(
        "INSERT INTO unknown_tasks VALUES (:process, 1)", {"process": add_me(database)}
    )
    return dict(database.execute("SELECT seq, state FROM jobs").fetchall())


def add_me(database: sqlite3.Connection) -> str:
    database.execute(QUERIES["add_process"], {"id": ME, "pid": 1, "now": NOW, "runs_jobs": 1})
    return ME


def parameters(number: int) -> dict[str, Any]:
    """Return values with which each query may match as much as it ever does."""
    return Anything(
        id=job_id(number), ids=json.dumps([job_id(number)]), owner=ME, now=NOW, tasks="[1]",
        limit=100, attempt=1, keep=10.0, reason="x", crashed=0, failed=0, before=10**9,
        depth=10**9, cap=100, seqs=json.dumps([number]), accused=3, last_chance_from=NOW,
    )  # fmt: skip  # one after another


LITERAL = sorted(set(TRANSITIONS) - {"insert", "settle", "recover"})


@pytest.mark.parametrize("name", LITERAL)
def test_a_query_makes_exactly_its_transitions(name: str, database: sqlite3.Connection) -> None:
    before = fill(database)
    made: set[tuple[str, str]] = set()
    for number in before:
        database.execute("SAVEPOINT one")
        changed = database.execute(f"{QUERIES[name]}", parameters(number)).fetchall()
        after = dict(database.execute("SELECT seq, state FROM jobs").fetchall())
        made |= {(before[n], after[n]) for n in before if before[n] != after[n]}
        if changed and before == after:
            made.add((before[number], after[number]))
        database.execute("ROLLBACK TO one")
    assert made == as_text(name)


def settle_parameters(number: int, state: str) -> tuple[Any, ...]:
    finished = NOW if state in FINISHED else None
    held_for = "x" if state == "held" else None
    return (job_id(number), 1, ME, state, NOW, None, None, "x", held_for, 0, 0, 0, finished, None)


def recover_parameters(number: int, state: str) -> dict[str, Any]:
    finished = NOW if state in FINISHED else None
    held_for = "x" if state == "held" else None
    more = {"state": state, "finished_at": finished, "held_for": held_for}
    return Anything(parameters(number) | more)


@pytest.mark.parametrize(
    ("name", "values"), [("settle", settle_parameters), ("recover", recover_parameters)]
)
def test_a_query_that_is_told_the_state_starts_from_running_only(
    name: str, values: Any, database: sqlite3.Connection
) -> None:
    before = fill(database)
    made: set[tuple[str, str]] = set()
    for number, state in itertools.product(before, EVERY_STATE):
        try:
            changed = database.execute(QUERIES[name], values(number, state))
            if changed.fetchall() or changed.rowcount:
                made.add((before[number], state))
        except sqlite3.IntegrityError:
            assert state == "running"
        database.execute("DELETE FROM jobs WHERE seq = ?", [number])
        add(database, number, before[number], owner=ME if number in (2, 10) else None)
    assert {start for start, _ in made} == {"running"}
    assert made >= as_text(name)


def test_a_job_begins_queued_or_running(database: sqlite3.Connection) -> None:
    for number, attempt in enumerate((0, 1), start=50):
        job = NewJob(job_id(number), "shop:send", "[]", NOW, NOW, ME, attempt)
        database.execute(QUERIES["insert"], job)
    made = {("none", row[0]) for row in database.execute("SELECT state FROM jobs")}
    assert made == as_text("insert")


# Many rows.


def test_a_batch_of_whatever_size_is_written_whole(database: sqlite3.Connection) -> None:
    before = database.execute("SELECT count(*) FROM jobs").fetchone()[0]
    numbers = itertools.count(1_000)
    for size in (1, 2, 31, 32, 33, 100, 255, 256, 257, 300):
        jobs = [
            NewJob(job_id(next(numbers)), "shop:send", "[]", NOW, NOW, ME, 1) for _ in range(size)
        ]
        assert execute_for_all(database, QUERIES["insert"], jobs) == size
        rows = [
            (job.id, 1, ME, "succeeded", NOW, None, "null", None, None, 0, 0, 0, NOW, NOW)
            for job in jobs
        ]
        assert execute_for_all(database, QUERIES["settle"], rows) == size
        before += size
    assert database.execute("SELECT count(*) FROM jobs").fetchone()[0] == before
    assert execute_for_all(database, QUERIES["insert"], []) == 0


# Plans.


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_prepares_on_a_fresh_schema(name: str, database: sqlite3.Connection) -> None:
    database.execute(f"EXPLAIN {QUERIES[name]}", anything(QUERIES[name]))


def plan(database: sqlite3.Connection, name: str) -> list[str]:
    explained = f"EXPLAIN QUERY PLAN {QUERIES[name]}"
    return [row[3] for row in database.execute(explained, anything(explained))]


USED = {
    "due": "jobs_claimable",
    "due_in_lines": "jobs_in_line",
    "due_suspect": "jobs_suspected",
    "next_due": "jobs_in_line",
    "to_cancel": "sqlite_autoindex_jobs",
    "next_suspect": "jobs_suspected",
    "next_expiry": "jobs_expiring",
    "next_prune": "jobs_prunable",
    "expire": "jobs_expiring",
    "prune": "jobs_prunable",
    "owned": "jobs_owned",
    "cancel_requests": "jobs_owned",
    "unblock": "jobs_following",
    "begin": "sqlite_autoindex_jobs",
    "release": "sqlite_autoindex_jobs",
    "settle": "sqlite_autoindex_jobs",
    "recover": "sqlite_autoindex_jobs",
    "record_attempt": "sqlite_autoindex_jobs",
    "withdraw": "sqlite_autoindex_jobs",
    "cancel_waiting": "sqlite_autoindex_jobs",
    "request_cancel": "sqlite_autoindex_jobs",
    "retry": "sqlite_autoindex_jobs",
    "get": "sqlite_autoindex_jobs",
    "ended": "sqlite_autoindex_jobs",
    "hold_unknown": "jobs_claimable",
    "unhold": "jobs_notable",
    "acquit": "sqlite_autoindex_jobs",
    "record_success": "sqlite_autoindex_jobs",
    "record_crash": "sqlite_autoindex_jobs",
    "owners": "jobs_owned",
    "keys_of_notable": "jobs_notable",
    "keys_of_task": "jobs_of_task",
    "keys_of_queue": "jobs_of_queue",
    "some_running": "jobs_owned",
    "some_retrying": "jobs_retrying",
    "some_ended": "jobs_ended",
    "some_waiting": "jobs_claimable",
    "waiting_queues": "jobs_in_line",
    "queues_of_jobs": "jobs_of_queue",
    "depth_of_queue": "jobs_in_line",
    "news_finished_keys": "jobs_ended",
    "news_attempt_keys": "attempts_by_time",
    "news_given": "sqlite_autoindex_jobs",
    "news_running": "jobs_owned",
    "running_by_queue": "jobs_owned",
    "run_now": "sqlite_autoindex_jobs",
    "delete_job": "sqlite_autoindex_jobs",
}


@pytest.mark.parametrize(("name", "index"), USED.items())
def test_a_query_finds_its_jobs_by_an_index(
    name: str, index: str, database: sqlite3.Connection
) -> None:
    steps = plan(database, name)
    assert any(index in step for step in steps), steps
    full = re.compile(r"SCAN (jobs|due|lower)\b(?!.* USING (COVERING )?INDEX)")
    assert not [step for step in steps if full.match(step)], steps


def test_claims_do_not_walk_over_jobs_of_the_future(database: sqlite3.Connection) -> None:
    steps = " ".join(plan(database, "due"))
    assert "jobs_claimable (priority=? AND due_at<?)" in steps
    assert "SEARCH lower USING" in steps
    assert "priority<?" in steps


def test_a_failed_job_is_counted_and_listed_without_reading_the_others(
    database: sqlite3.Connection,
) -> None:
    assert "jobs_notable" in " ".join(plan(database, "counts"))
    assert "jobs_notable" in " ".join(plan(database, "keys_of_notable"))


def test_jobs_to_be_retried_are_counted_without_reading_them(database: sqlite3.Connection) -> None:
    steps = [step for step in plan(database, "kinds_of_waiting") if "jobs_retrying" in step]
    assert steps
    assert all("(due_at>? AND due_at<?)" in step for step in steps), steps


# The schema refuses rows that cannot be.

IMPOSSIBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown state": ("paused", {}),
    "running and nobody's": ("running", {"owner": None}),
    "running in no attempt": ("running", {"attempt": 0}),
    "finished and owned": ("succeeded", {"owner": ME}),
    "held and owned": ("held", {"owner": ME}),
    "finished without an end": ("failed", {"finished_at": None}),
    "an end without being finished": ("queued", {"finished_at": NOW}),
    "failed without a reason": ("failed", {"reason": None}),
    "cancelled without a reason": ("cancelled", {"reason": None}),
    "expired without a reason": ("expired", {"reason": None}),
    "held without a reason": ("held", {"reason": None}),
    "held for nothing": ("held", {"held_for": None}),
    "held for something and not held": ("queued", {"held_for": "crash"}),
    "a result of a failure": ("failed", {"result": "1"}),
    "a negative attempt": ("queued", {"attempt": -1}),
    "an unknown crash policy": ("queued", {"on_crash": "explode"}),
    "no task": ("queued", {"task": 99}),
    "no arguments": ("queued", {"args": None}),
    "a due time that is no number": ("queued", {"due_at": "soon"}),
    "neither leading nor not": ("queued", {"leads": 2}),
}


@pytest.mark.parametrize(("state", "changes"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_the_schema_refuses(
    state: str, changes: dict[str, Any], database: sqlite3.Connection
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        add(database, 1, state, **changes)


@pytest.mark.parametrize("state", EVERY_STATE)
def test_the_schema_takes_what_can_be(state: str, database: sqlite3.Connection) -> None:
    add(database, 1, state)


# The loader.


def test_a_query_is_read_without_its_name_and_comments() -> None:
    text = "-- name: one\n-- What it does.\nSELECT 1\n  FROM t;\n\n-- name: two\nSELECT 2;\n"
    assert parse_queries(text) == {"one": "SELECT 1\n  FROM t", "two": "SELECT 2"}


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'one' is there twice"):
        parse_queries("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")


def test_every_query_has_a_comment() -> None:
    for name in QUERIES:
        assert re.search(rf"-- name: {name}\n-- \S", TEXT), name


# The libraries below.


def test_the_pinned_release_of_the_database_library_is_what_our_connection_leans_on() -> None:
    assert version("aiosqlite").startswith("0.22.")
    assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)
    assert isinstance(vars(aiosqlite.Connection)["_conn"], property)
    names = list(inspect.signature(aiosqlite.Connection.__init__).parameters)
    assert names[:3] == ["self", "connector", "iter_chunk_size"]
    connection = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 64)
    assert isinstance(connection._thread, Thread)
    assert isinstance(connection._tx, SimpleQueue)
    assert not connection._thread.is_alive()
    assert not connection._thread.daemon


@pytest.mark.parametrize("old", [(3, 7, 17), (3, 37, 2)])
def test_an_sqlite_that_is_too_old_is_refused(old: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"too old.*3\.38\.0 or newer"):
        check_version(old)


def test_an_sqlite_that_is_new_enough_is_taken() -> None:
    check_version((3, 38, 0))
    check_version()
