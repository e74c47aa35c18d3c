"""The one place where SQLite is reached: an aiosqlite connection that runs whole transactions.

What lives here: `Connection`, its settings, and what SQLite's errors mean. What does not: any
statement of ours. Called by the writer and the reader only.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

import aiosqlite

from embedded_tasks.errors import (
    ConfigurationError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)

__all__ = [
    "Connection",
    "SQLiteConnection",
    "check_version",
    "connect",
    "has_wal_reset_bug",
    "is_undecodable",
    "translated",
]

SQLiteConnection = sqlite3.Connection
"""What a transaction function is given; named here so that nobody else imports sqlite3."""

_T = TypeVar("_T")

_OLDEST_SQLITE = (3, 38, 0)
_FIXED: Final = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
_FORMAT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PASSING_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "Another program holds SQLite's lock, such as a shell or a backup with an "
    "open transaction: end it.",
    sqlite3.SQLITE_FULL: "The disk is full: make room on it.",
    sqlite3.SQLITE_IOERR: "The disk fails: the system's log says why.",
    sqlite3.SQLITE_READONLY: "The file or its disk is read-only: see to its permissions and mount.",
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened: see to its permissions, and to the number of "
    "files that this process may open.",
}
"""What a person can do about an error that passes; the runner goes on by itself then."""


class Connection(aiosqlite.Connection):
    """An aiosqlite connection with one more method.

    aiosqlite's own calls cross to its thread once each; a transaction of six statements would
    cross six times. `run` crosses once. It leans on `_execute`, `_conn`, `_thread` and `_tx` of the
    pinned aiosqlite release; a test checks that they are what they were.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection], path: str) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._path = path
        self._stopped: asyncio.Future[Any] | None = None
        # A commit that hangs in the kernel must not keep the interpreter from ending.
        self._thread = Thread(target=_serve, args=(self._thread.run, self._tx), daemon=True)

    async def open(self) -> None:
        """Start the connection's thread and open the file in it.

        Raises:
            StoreError: SQLite's error, translated.
        """
        try:
            _ = await self
        except sqlite3.Error as error:
            # aiosqlite has told its thread to end; it must not outlive the loop.
            if self._stopped is not None:
                await self._stopped
            raise translated(error, self._path) from error

    def read_leniently(self) -> None:
        """Read text that is no UTF-8, too, as text that nothing takes for sound."""
        self._conn.text_factory = _lenient

    def leave(self) -> None:
        """Close the file when its thread comes back from what it hangs in; nobody waits for it."""
        connection, self._connection = self._conn, None
        self._tx.put_nowait((None, connection.close))
        self.stop()

    def stop(self) -> asyncio.Future[Any] | None:
        """Stop the connection's thread, as aiosqlite does, and remember when it has ended."""
        self._stopped = super().stop()
        return self._stopped

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Call `work` with the plain connection in the connection's thread."""
        result: _T = await self._execute(partial(work, self._conn))  # type: ignore[no-untyped-call]  # aiosqlite leaves it untyped
        return result


def connect(path: str, *, settings: dict[str, str | int], read_only: bool = False) -> Connection:
    """Return a connection that is opened when it is awaited.

    Args:
        path: The file, or ":memory:".
        settings: PRAGMAs to set, in order.
        read_only: Refuse every write (`query_only`).
    """

    def connector() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            for name, value in settings.items():
                connection.execute(f"PRAGMA {name}={value}")
            if read_only:
                connection.execute("PRAGMA query_only=1")
        except BaseException:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        return connection

    return Connection(connector, path)


def _serve(run: Callable[[], None], waiting: SimpleQueue[Any]) -> None:
    """Be a connection's thread, which may outlive the loop that its answers go to."""
    try:
        run()
    except RuntimeError:
        while not waiting.empty():
            _, function = waiting.get()
            with contextlib.suppress(sqlite3.Error):
                function()


def check_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse an SQLite library that lacks what the statements need (STRICT, RETURNING, ->>)."""
    if version < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {'.'.join(map(str, version))} is too old: embedded_tasks needs "
            f"{'.'.join(map(str, _OLDEST_SQLITE))} or newer. Use a Python that is built with a "
            "newer one."
        )


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether a release of SQLite can lose commits when a checkpoint and a commit race."""
    if version >= _FIXED[-1]:
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED[:-1])


def is_undecodable(error: Exception) -> bool:
    """Return whether a row could not be read for a text in it that is no UTF-8."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)


def _lenient(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        # No JSON begins like this, so that it is never taken for arguments.
        return "\N{REPLACEMENT CHARACTER}" + data.decode(errors="replace")


def translated(error: sqlite3.Error, path: str) -> StoreError:
    """Return what an SQLite error means for the caller."""
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    primary = code & 0xFF
    if primary in _FORMAT_CODES:
        return StoreFormatError(
            f"{path} is damaged or not a database ({name}: {error}). It was left as it is: stop "
            "the app, copy the file with its -wal, and restore a backup or use `.recover`."
        )
    if primary in _PASSING_CODES:
        return StoreUnavailableError(
            f"{path} cannot be written or read just now ({name}: {error}). Nothing was stored. "
            f"{_REMEDIES.get(primary, '')}".rstrip()
        )
    return StoreError(f"{path}: {name}: {error}")
