"""Opening the file: created privately, recognised, brought up to date, or refused and left alone.

What lives here: what is checked before the first job. What does not: jobs. Called by pytest; it
needs a disk, as it is about one.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.errors import StoreError, StoreFormatError, StoreUnavailableError
from embedded_tasks.store import Store, StoreSettings, copying, opening
from embedded_tasks.store.opening import APPLICATION_ID, SCHEMA_VERSION
from tests.support.jobs import new_job
from tests.support.stores import claim_all, opened, record, rows

pytestmark = pytest.mark.anyio


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def fact(file: Path, sql: str) -> Any:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(sql).fetchone()[0]
    finally:
        connection.close()


def change(file: Path, *statements: str) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    for sql in statements:
        connection.execute(sql)
    connection.close()


def empty(file: Path) -> None:
    file.touch(mode=0o640)


def everything(file: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in file.parent.iterdir()}


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


async def test_a_new_file_and_what_stands_beside_it_are_for_their_owner_only(file: Path) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
        beside = [file, Path(f"{file}-wal"), Path(f"{file}-shm")]
        assert {path.name: mode(path) for path in beside} == {path.name: "0o600" for path in beside}


async def test_a_new_file_says_whose_it_is_and_which_version(file: Path) -> None:
    async with opened(str(file)):
        pass
    assert fact(file, "PRAGMA application_id") == APPLICATION_ID
    assert fact(file, "PRAGMA user_version") == SCHEMA_VERSION
    assert fact(file, "SELECT value FROM meta WHERE key = 'oldest_reader'") == "1"


async def test_jobs_are_there_when_the_file_is_opened_again(file: Path) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1, args="[[7],{}]")])
    async with opened(str(file)) as store:
        assert (await record(store, 1)).args == "[[7],{}]"
        assert len(await claim_all(store)) == 1


async def test_an_empty_file_is_taken_as_new_and_keeps_its_mode(file: Path) -> None:
    empty(file)
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    assert mode(file) == "0o640"


SETTINGS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "trusted_schema": 0,
    "mmap_size": 0,
    "wal_autocheckpoint": 0,
    "busy_timeout": 5000,
    "temp_store": 2,
}


def kept_settings(connection: sqlite3.Connection) -> dict[str, Any]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS}


async def test_the_settings_hold_on_both_connections(file: Path) -> None:
    async with opened(str(file), synchronous="FULL") as store:
        assert await store._connection.run(kept_settings) == SETTINGS
        assert await store._read_connection.run(kept_settings) == SETTINGS
        assert store._connection is not store._read_connection


async def test_other_settings_are_honoured(file: Path) -> None:
    async with opened(str(file), synchronous="EXTRA", journal_mode="DELETE", wait=0.25) as store:
        assert await rows(store, "PRAGMA synchronous") == [(3,)]
        assert await rows(store, "PRAGMA journal_mode") == [("delete",)]
        assert await rows(store, "PRAGMA busy_timeout") == [(250,)]


async def test_the_reading_connection_cannot_write(file: Path) -> None:
    async with opened(str(file)) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store._read_connection.run(lambda c: c.execute("DELETE FROM jobs"))


# Refused, and left as it was.


def newer(file: Path) -> None:
    change(file, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    change(file, f"UPDATE meta SET value = '{SCHEMA_VERSION + 1}' WHERE key = 'oldest_reader'")


def foreign(file: Path) -> None:
    file.unlink()
    change(file, "CREATE TABLE orders (id INTEGER)", "INSERT INTO orders VALUES (1)")


def foreign_wal(file: Path) -> None:
    file.unlink()
    change(file, "PRAGMA journal_mode = WAL", "CREATE TABLE orders (id INTEGER)")


def foreign_marked(file: Path) -> None:
    change(file, "PRAGMA application_id = 4711")


def foreign_emptied(file: Path) -> None:
    file.unlink()
    change(file, "CREATE TABLE orders (id INTEGER)", "DROP TABLE orders")


def text(file: Path) -> None:
    file.write_text("dear diary,\n" * 1000)


def short_text(file: Path) -> None:
    file.write_bytes(b"hello")


def garbage(file: Path) -> None:
    file.write_bytes(bytes((n * 31 + 7) % 256 for n in range(8192)))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def beheaded(file: Path) -> None:
    file.write_bytes(file.read_bytes()[100:])


REFUSED: dict[Callable[[Path], None], str] = {
    newer: "written by a newer release",
    foreign: "a database of another program",
    foreign_wal: "a database of another program",
    foreign_marked: "a database of another program",
    foreign_emptied: "a database of another program",
    text: "damaged or not a database",
    short_text: "damaged or not a database",
    garbage: "damaged or not a database",
    truncated: "damaged or not a database",
    beheaded: "damaged or not a database",
}


@pytest.mark.parametrize(
    ("spoil", "why"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", "")
)
async def test_a_file_that_is_not_ours_to_write_is_refused_and_left_as_it_was(
    file: Path, spoil: Callable[[Path], None], why: str
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(n) for n in range(300)])
    spoil(file)
    before = everything(file)
    with pytest.raises(StoreFormatError, match=why) as refused:
        async with opened(str(file)):
            pass
    assert str(file) in str(refused.value)
    assert "left as it is" in str(refused.value)
    assert everything(file) == before


async def test_a_newer_file_that_this_release_may_read_is_taken(file: Path) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    change(
        file,
        f"PRAGMA user_version = {SCHEMA_VERSION + 3}",
        "ALTER TABLE jobs ADD COLUMN colour TEXT",
        "CREATE TABLE more (id INTEGER)",
    )
    async with opened(str(file)) as store:
        await store.insert([new_job(2)])
        assert len(await claim_all(store)) == 2
    assert fact(file, "PRAGMA user_version") == SCHEMA_VERSION + 3


# What cannot be opened just now.


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="Create its folder"):
        async with opened(str(tmp_path / "nowhere" / "tasks.db")):
            pass


async def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=str(tmp_path)):
        async with opened(str(tmp_path)):
            pass


async def test_a_file_that_somebody_has_locked_is_told(file: Path) -> None:
    async with opened(str(file), journal_mode="DELETE"):
        pass
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
        async with opened(str(file), wait=0.0, journal_mode="DELETE"):
            pass
    other.execute("ROLLBACK")
    other.close()
    async with opened(str(file), journal_mode="DELETE"):
        pass


# Migrations.

NEXT = SCHEMA_VERSION + 1
SECOND = """
-- A column; and a statement with a semicolon inside: ';'
ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'a;b';
CREATE INDEX jobs_by_colour ON jobs (colour);
"""


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(script: str) -> None:
        monkeypatch.setattr(opening, "MIGRATIONS", {**opening.MIGRATIONS, NEXT: script})
        monkeypatch.setattr(opening, "SCHEMA_VERSION", NEXT)

    return install


async def test_a_migration_keeps_the_jobs_and_a_copy_of_the_file(
    file: Path, next_release: Callable[[str], None]
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    next_release(SECOND)
    async with opened(str(file)) as store:
        await store.insert([new_job(2)])
        assert await rows(store, "SELECT DISTINCT colour FROM jobs") == [("a;b",)]
    assert fact(file, "PRAGMA user_version") == NEXT
    copy = Path(f"{file}.before-schema-{NEXT}")
    assert mode(copy) == "0o600"
    assert fact(copy, "PRAGMA user_version") == SCHEMA_VERSION
    assert fact(copy, "SELECT count(*) FROM jobs") == 1
    assert fact(copy, "PRAGMA integrity_check") == "ok"


class MeanwhileLock:
    """The writers' lock, before which somebody else has come.

    Args:
        meanwhile: What was done before it was taken, time after time.
    """

    def __init__(self, *meanwhile: Callable[[], None]) -> None:
        self._meanwhile = list(meanwhile)
        self.is_held = False

    def acquire(self) -> None:
        if self._meanwhile:
            self._meanwhile.pop(0)()
        self.is_held = True

    def release(self) -> None:
        self.is_held = False

    def acquire_within(self, seconds: float) -> None:
        self.acquire()

    def holders(self) -> str:
        return ""


async def test_the_copy_is_made_while_others_may_write(
    file: Path, next_release: Callable[[str], None]
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(n) for n in (1, 2)])
    next_release(SECOND)
    copy = Path(f"{file}.before-schema-{NEXT}")
    seen: list[Any] = []

    def meanwhile() -> None:
        seen.append(fact(copy, "SELECT count(*) FROM jobs"))
        change(file, "DELETE FROM jobs WHERE seq = 1")

    # First to look at the file, then to change it.
    lock = MeanwhileLock(lambda: None, meanwhile)
    store = await Store.open(StoreSettings(str(file)), lock)
    await store.close()
    assert seen == [2]
    assert fact(file, "SELECT count(*) FROM jobs") == 1
    assert fact(copy, "SELECT count(*) FROM jobs") == 2


async def test_a_file_is_looked_at_under_the_lock_for_a_sibling_may_be_making_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = MeanwhileLock()
    looked: list[bool] = []
    recognised = opening.recognised_version

    def look(connection: sqlite3.Connection, path: str) -> int:
        looked.append(lock.is_held)
        return recognised(connection, path)

    monkeypatch.setattr(opening, "recognised_version", look)
    store = await Store.open(StoreSettings(str(file)), lock)
    await store.close()
    assert looked == [True, True]


async def test_nobody_is_harmed_by_a_sibling_that_migrates_first(
    file: Path, next_release: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    next_release(SECOND)

    def overtaken(*args: Any) -> None:
        change(file, f"PRAGMA user_version={NEXT}")
        raise FileNotFoundError("the part is gone")

    monkeypatch.setattr(opening, "make_copy", overtaken)
    async with opened(str(file)) as store:
        assert await rows(store, "SELECT count(*) FROM jobs") == [(1,)]


async def test_a_copy_that_fails_leaves_nothing_and_changes_nothing(
    file: Path, next_release: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    next_release(SECOND)
    before = {path.name for path in file.parent.iterdir()}

    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "sync_file", full)
    with pytest.raises(StoreUnavailableError, match=r"cannot be copied.*No space"):
        async with opened(str(file)):
            pass
    assert {path.name for path in file.parent.iterdir()} == before
    assert fact(file, "PRAGMA user_version") == SCHEMA_VERSION


async def test_what_a_process_left_that_died_while_it_copied_is_removed(
    file: Path, next_release: Callable[[str], None]
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    copy = Path(f"{file}.before-schema-{NEXT}")
    for name in (f"{copy}.abc", f"{copy}.abc-journal"):
        Path(name).write_bytes(b"half")  # noqa: ASYNC240  # of four bytes
    next_release(SECOND)
    async with opened(str(file)):
        pass
    assert [path.name for path in file.parent.glob("*.before-schema-*")] == [copy.name]


async def test_a_migration_runs_once(file: Path, next_release: Callable[[str], None]) -> None:
    async with opened(str(file)):
        pass
    next_release(SECOND)
    for _ in range(2):
        async with opened(str(file)) as store:
            await store.read.ping()


async def test_a_new_file_gets_all_migrations_and_needs_no_copy(
    file: Path, next_release: Callable[[str], None]
) -> None:
    next_release(SECOND)
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    assert fact(file, "PRAGMA user_version") == NEXT
    assert not list(file.parent.glob("*.before-schema-*"))


async def test_a_migration_that_fails_changes_nothing(
    file: Path, next_release: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(str(file)) as store:
        await store.insert([new_job(1)])
    next_release(SECOND + "\nCREATE TABLE jobs (id INTEGER);\n")
    with pytest.raises(StoreError, match="already exists"):
        async with opened(str(file)):
            pass
    assert fact(file, "PRAGMA user_version") == SCHEMA_VERSION
    assert fact(file, "SELECT count(*) FROM pragma_table_info('jobs') WHERE name = 'colour'") == 0
    monkeypatch.undo()
    async with opened(str(file)) as store:
        assert len(await claim_all(store)) == 1


async def test_memory_is_migrated_without_a_copy(next_release: Callable[[str], None]) -> None:
    next_release(SECOND)
    async with opened(":memory:") as store:
        assert await rows(store, "PRAGMA user_version") == [(NEXT,)]


def test_migrations_are_numbered_without_a_gap() -> None:
    assert list(opening.MIGRATIONS) == list(range(1, SCHEMA_VERSION + 1))
