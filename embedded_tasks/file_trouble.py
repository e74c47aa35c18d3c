"""What is wrong with the file and its disk just now, and what to do, in words.

What lives here: looks at the store's writer, the names of the files and the locks on them. What
does not: mending. Asked by health; told by the session when a commit takes too long.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import structlog

from embedded_tasks.clock import Clock, Throttle
from embedded_tasks.errors import StoreError
from embedded_tasks.processes import list_processes, named, readers, who_keeps_it, writers
from embedded_tasks.store import Store, has_wal_reset_bug

__all__ = ["FileTrouble"]

_log = structlog.get_logger("embedded_tasks")

_SLOW = 1.0
_LOG_EVERY = 10.0
_PATIENCE = 1.0
_ROOM = 16 * 1024 * 1024
_SHARE = 0.1
_WAL_RESET_BUG = (
    "SQLite {} can lose commits when a program that is no process of the app writes to the file "
    "(the WAL-reset bug, sqlite.org/wal.html). The processes of the app take turns, and are safe. "
    "Let nothing else write, or use SQLite 3.51.3 or newer."
)


class FileTrouble:
    """Finds words for what keeps the store from working.

    Args:
        store: The open store.
        path: The database file.
        folder: The folder of the processes.
        clock: Where the time comes from.
        sqlite: The release of SQLite.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        folder: Path,
        clock: Clock,
        sqlite: tuple[int, int, int] = sqlite3.sqlite_version_info,
    ) -> None:
        self._store = store
        self._path = path
        self._folder = folder
        self._clock = clock
        self._tell = Throttle(clock, _LOG_EVERY, self._log_stall)
        store.writer.on_slow = self._tell
        self._bug = ""
        if has_wal_reset_bug(sqlite):
            self._bug = _WAL_RESET_BUG.format(".".join(map(str, sqlite)))
            if len(list_processes(folder)) > 1:
                # Where several processes write, others may, too; a file of one is mostly its own.
                _log.warning("store.sqlite_affected", file=path, warning=self._bug)

    async def problems(self) -> list[str]:
        """Return what is wrong, each with what to do.

        After a write that failed something is written, to see whether that works again: health must
        not stay bad because nobody asks an unhealthy app to write.
        """
        writer = self._store.writer
        if writer.refusal is not None:
            return [str(writer.refusal)]
        found = [self._store.identity.problem()]
        if writer.last_error is not None and writer.stalled(0.0) is None:
            await self._probe()
        if writer.last_error is not None and found == [None]:
            found.append(f"The last write failed: {writer.last_error}{self._who_writes()}")
        elif found == [None]:
            found.append(self._full_disk())
        found += [self._stall(), self._large_wal(), await self._foreign_writer()]
        return [problem for problem in found if problem]

    async def _foreign_writer(self) -> str | None:
        """A foreign program is seen while its transaction is open, and missed in between."""
        found = set(writers(self._path)) if self._bug else None
        if not found:
            return None
        try:
            found -= {process.pid for process in await self._store.read.processes()}
        except StoreError:
            return None
        if not found:
            return None
        problem = (
            f"{named(sorted(found))} writes to {self._path} just now. {self._bug} A program is "
            "seen only while its transaction is open: it may write again when this is not said."
        )
        _log.error("store.foreign_writer", file=self._path, problem=problem)
        return problem

    async def _probe(self) -> None:
        try:
            await self._store.probe(self._clock.now(), _PATIENCE)
        except StoreError:
            # The writer has kept it as its last error.
            return

    def _log_stall(self) -> None:
        _log.error("store.stalled", file=self._path, problem=self._stall(0.0))

    def _stall(self, longer_than: float = _SLOW) -> str | None:
        writer = self._store.writer
        words = writer.stalled(longer_than)
        if words is None:
            return None
        if not writer.waits_for_lock:
            return f"{words}{self._who_writes()} It goes on by itself when that is over."
        return (
            f"{words} {who_keeps_it(self._folder)} Nothing is stored here meanwhile; it goes on "
            "by itself."
        )

    def _who_writes(self) -> str:
        found = named(writers(self._path))
        return f" A transaction to write is open in {found}." if found else ""

    def _full_disk(self) -> str | None:
        """After a full disk little jobs may be stored again and large ones still be refused."""
        writer = self._store.writer
        if writer.was_full:
            disk = os.statvfs(self._folder)
            room = disk.f_bavail * disk.f_frsize
            if room < min(_ROOM, disk.f_blocks * disk.f_frsize * _SHARE):
                return (
                    f"The disk of {self._path} was full, and has {room // 1000} kB left: "
                    "make room on it. Meanwhile jobs may be refused."
                )
            writer.was_full = False
        return None

    def _large_wal(self) -> str | None:
        checkpointer = self._store.writer.checkpointer
        if not (checkpointer.blocked and checkpointer.is_large()):
            return None
        found = named(readers(self._path))
        return (
            f"{self._path}-wal has grown to {checkpointer.wal_size() // 1_000_000} MB, because "
            f"something reads from the file for a long time{f': {found}' if found else ''}. End "
            "that transaction, or the program; the file shrinks by itself then."
        )
