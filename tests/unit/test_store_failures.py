"""A disk that is full, broken, busy or read-only: who is told what, and that it works again later.

What lives here: errors of the environment, made with SQLite's own limits or a connection that
fails; and checkpoints. What does not: bad rows (`tests/store_contract/test_group_commit.py`).
Called by pytest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.errors import StoreError, StoreFormatError, StoreUnavailableError
from embedded_tasks.job import Succeeded
from embedded_tasks.store import Store, checkpoint
from embedded_tasks.store.callers import Operation
from embedded_tasks.store.checkpoint import Checkpointer
from embedded_tasks.store.connection import translated
from tests.support.jobs import ME, NOW, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import Gate, opened, write

pytestmark = pytest.mark.anyio

DONE = Succeeded("[1,1]")


async def together(calls: Sequence[Awaitable[object]]) -> list[object]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def stored(store: Store) -> list[int]:
    found = [await store.read.get(job_id(n), NOW) for n in range(30)]
    return [number for number, job in enumerate(found) if job is not None]


def sqlite_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


class Failing:
    """A connection whose statements fail, as those of a bad disk do."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real
        self.fails: dict[str, Exception] = {}
        self.seen: list[str] = []

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.seen.append(sql)
        for start, error in self.fails.items():
            if sql.lstrip().startswith(start):
                raise error
        return self.real.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def fail(store: Store) -> Failing:
    """Put a failing connection in the place of the store's write connection."""
    connection: Any = store._connection
    failing = Failing(connection._connection)
    connection._connection = failing
    return failing


async def test_a_full_disk_fails_every_caller_and_later_writes_work(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "tasks.db")) as store:
        await store.insert([new_job(1)])
        await write(store, "PRAGMA max_page_count = 1")
        big = [new_job(n, args="[[],{}]".ljust(100_000)) for n in (2, 3, 4)]
        results = await together([store.insert([job]) for job in big])
        assert [type(result) for result in results] == [StoreUnavailableError] * 3
        assert "SQLITE_FULL" in str(results[0])
        assert store.writer.last_error is not None
        assert await stored(store) == [1]
        await write(store, "PRAGMA max_page_count = 1000000")
        await store.insert(big)
        assert await stored(store) == [1, 2, 3, 4]
        assert store.writer.last_error is None


PASSING = ["SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_READONLY", "SQLITE_CANTOPEN"]


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("where", ["BEGIN", "INSERT", "COMMIT"])
async def test_an_error_of_the_environment_stores_nothing_of_the_batch(
    name: str, where: str
) -> None:
    async with opened() as store:
        await store.insert([new_job(0)])
        disk = fail(store)
        disk.fails[where] = sqlite_error(name)
        results = await together([store.insert([new_job(n)]) for n in (1, 2)])
        assert [type(result) for result in results] == [StoreUnavailableError] * 2
        disk.fails.clear()
        assert await stored(store) == [0]
        await store.insert([new_job(3)])
        assert await stored(store) == [0, 3]


@pytest.mark.parametrize("name", ["SQLITE_CORRUPT", "SQLITE_NOTADB"])
async def test_a_damaged_file_is_told_as_that(name: str) -> None:
    async with opened() as store:
        fail(store).fails["INSERT"] = sqlite_error(name)
        with pytest.raises(StoreFormatError, match="damaged"):
            await store.insert([new_job(1)])


async def test_an_error_that_comes_with_the_second_try_is_everybody_s() -> None:
    async with opened() as store:
        await store.insert([new_job(1)])
        disk = fail(store)
        disk.fails["SAVEPOINT"] = sqlite_error("SQLITE_IOERR")
        results = await together([store.insert([new_job(1)]), store.insert([new_job(2)])])
        assert [type(result) for result in results] == [StoreUnavailableError] * 2
        disk.fails.clear()
        assert await stored(store) == [1]


async def test_a_lock_that_cannot_be_had_is_told_and_costs_nothing_later() -> None:
    gate = Gate()
    async with opened(gate=gate) as store:
        gate.error = StoreUnavailableError("the lock is gone")
        results = await together([store.insert([new_job(n)]) for n in (1, 2)])
        assert [str(result) for result in results] == ["the lock is gone"] * 2
        gate.error = None
        await store.insert([new_job(3)])
        assert await stored(store) == [3]


async def test_an_outcome_that_could_not_be_written_can_be_written_again() -> None:
    async with opened() as store:
        await store.insert([running_job(1)])
        disk = fail(store)
        disk.fails["COMMIT"] = sqlite_error("SQLITE_IOERR")
        row = settled(claimed_job(1), DONE)
        with pytest.raises(StoreUnavailableError):
            await store.settle([row])
        disk.fails.clear()
        assert await store.settle([row]) == {job_id(1): False}


async def test_reading_from_a_bad_disk_is_told_too() -> None:
    async with opened() as store:
        fail(store).fails["SELECT"] = sqlite_error("SQLITE_IOERR")
        with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR"):
            await store.read.ping()


def test_an_error_of_the_library_s_own_is_a_store_error() -> None:
    error = translated(sqlite3.ProgrammingError("Incorrect number of bindings"), "tasks.db")
    assert type(error) is StoreError
    assert "tasks.db: ProgrammingError: Incorrect number" in str(error)


def test_an_extended_code_is_told_by_its_first_byte() -> None:
    error = sqlite_error("SQLITE_IOERR_FSYNC")
    assert isinstance(translated(error, "tasks.db"), StoreUnavailableError)


# Checkpoints.


def wal_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def test_the_wal_is_bounded_by_checkpoints_of_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with opened(str(path)) as store:
        store.writer.checkpointer = checkpointer = Checkpointer(str(path), commits=5)
        sizes = []
        for n in range(40):
            await store.insert([new_job(n, args="[[],{}]".ljust(20_000))])
            sizes.append(wal_size(path))
        assert checkpointer.checkpoints == 8
        assert max(sizes[10:]) <= max(sizes[:10])


async def test_without_a_checkpoint_the_wal_would_grow(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with opened(str(path)) as store:
        sizes = []
        for n in range(40):
            await store.insert([new_job(n, args="[[],{}]".ljust(20_000))])
            sizes.append(wal_size(path))
        assert sizes[-1] - sizes[10] > 29 * 20_000


async def test_a_wal_that_has_grown_large_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_LARGE_WAL", 100_000)
    path = tmp_path / "tasks.db"
    async with opened(str(path)) as store:
        store.writer.checkpointer = Checkpointer(str(path), commits=10)
        for n in range(9):
            await store.insert([new_job(n, args="[[],{}]".ljust(50_000))])
        assert wal_size(path) > 100_000
        await store.insert([new_job(10)])
        assert wal_size(path) == 0
        disk = fail(store)
        await store.insert([new_job(11)])
        assert disk.execute("PRAGMA busy_timeout").fetchone()[0] == 5000


async def test_a_checkpoint_that_fails_does_not_fail_the_commit(tmp_path: Path) -> None:
    async with opened(str(tmp_path / "tasks.db")) as store:
        store.writer.checkpointer = Checkpointer(str(tmp_path / "tasks.db"), commits=1)
        disk = fail(store)
        errors = [sqlite_error("SQLITE_BUSY"), sqlite3.DatabaseError("malformed")]
        for n, error in enumerate(errors):
            disk.fails["PRAGMA wal_checkpoint"] = error
            await store.insert([new_job(n)])
        assert await stored(store) == [0, 1]


async def test_what_was_committed_to_a_file_that_has_just_lost_its_name_is_taken_back(
    tmp_path: Path,
) -> None:
    path, away = tmp_path / "tasks.db", tmp_path / "away"
    async with opened(str(path)) as store:
        await store.insert([new_job(1, owner=ME)])
        # Within the transaction: after the look before it, and before the one after it.
        moving = Operation(lambda _connection, _rows: path.rename(away), [])
        told = await together(
            [store.writer.submit(moving), store.insert([running_job(2)]),
             store.release([job_id(1)], ME, NOW)]
        )  # fmt: skip  # one batch
        assert isinstance(told[1], StoreUnavailableError)
        assert told[2] == []  # did happen, and is not to be done again
        with pytest.raises(StoreUnavailableError, match="moved away"):
            await store.insert([new_job(3)])
        away.rename(path)
        store.writer._debts._try()
        await store.insert([new_job(4)])
        assert await stored(store) == [1, 4]
        job = await store.read.get(job_id(1), NOW)
        assert job is not None
        assert job.owner is None


async def test_checkpoints_run_while_the_writers_lock_is_held(tmp_path: Path) -> None:
    gate = Gate()
    held: list[bool] = []
    path = str(tmp_path / "tasks.db")
    async with opened(path, gate) as store:

        class Watching(Checkpointer):
            def after_commit(self, connection: sqlite3.Connection) -> None:
                held.append(gate.is_held)
                super().after_commit(connection)

        store.writer.checkpointer = Watching(path, commits=1)
        await store.insert([new_job(1)])
        assert held == [True]
        assert not gate.is_held
