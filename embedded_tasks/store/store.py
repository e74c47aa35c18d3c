"""The store: one SQLite file, one writer, one reader.

What lives here: `Store`, which puts the parts of this folder together and gives every transition
a method. What does not: policy; it is told the outcome and decides nothing. Called by the actions
and services, built by the runner.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.job import NewJob, Settlement
from embedded_tasks.settings import Settings
from embedded_tasks.store.callers import Operation
from embedded_tasks.store.checkpoint import Checkpointer
from embedded_tasks.store.connection import Connection, check_version, connect
from embedded_tasks.store.identity import FileIdentity
from embedded_tasks.store.leaving import OpeningLock, Patience, Turn
from embedded_tasks.store.news import News
from embedded_tasks.store.opening import (
    copy_before_migration,
    create_file,
    is_old,
    prepare,
)
from embedded_tasks.store.operations import (
    Claim,
    ClaimResult,
    Jobs,
    Recovery,
)
from embedded_tasks.store.reader import Reader
from embedded_tasks.store.steering import Steering
from embedded_tasks.store.views import Views
from embedded_tasks.store.writer import Writer

__all__ = ["Guard", "Store", "StoreSettings"]

_PRUNE_BATCH = 500
_LAST_WAIT = 1.0
_NOT_CLOSED = (
    "Another process holds the writers' lock, and was perhaps stopped: what was not written is as "
    "after a kill, and whoever starts next goes on with it."
)

_log = structlog.get_logger("embedded_tasks")


class Guard(Protocol):
    """Keeps siblings from taking the file for unused."""

    def hold(self) -> bool:
        """Take hold of the file, which is open."""
        ...

    def release(self) -> None:
        """Let go of it, before its last connection closes."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How the file is opened and written.

    Args:
        path: The file, or ":memory:".
        synchronous: SQLite's setting; "FULL" (default) survives a power cut.
        journal_mode: SQLite's setting (default "WAL").
        wait: Seconds that an enqueue waits for its commit before it fails (default 5).
        keep_expired: Seconds that expired jobs are kept.
        keep_cancelled: Seconds that cancelled jobs are kept.
        grace: Seconds that the work may take to end.
    """

    path: str
    synchronous: str = "FULL"
    journal_mode: str = "WAL"
    wait: float = 5.0
    keep_expired: float = 7 * 86400.0
    keep_cancelled: float = 7 * 86400.0
    grace: float = 0.0

    @classmethod
    def of(cls, path: str, settings: Settings) -> StoreSettings:
        """Return what a runner's settings say of its store."""
        return cls(
            path=path,
            synchronous=settings.synchronous,
            journal_mode=settings.journal_mode,
            wait=settings.store_wait,
            keep_expired=settings.retention.keep("expired"),
            keep_cancelled=settings.retention.keep("cancelled"),
            grace=settings.shutdown_grace,
        )

    @property
    def last_wait(self) -> float:
        """How long start and end wait for a process that keeps the writers' lock, in seconds."""
        return max(self.wait, _LAST_WAIT)

    def pragmas(self) -> dict[str, str | int]:
        """Return the PRAGMAs of every connection."""
        pragmas: dict[str, str | int] = {
            "busy_timeout": int(self.wait * 1000),
            "foreign_keys": 1,
            "trusted_schema": 0,
            "mmap_size": 0,
            "temp_store": "MEMORY",
        }
        if self.path != ":memory:":
            pragmas["journal_mode"] = self.journal_mode
        pragmas["synchronous"] = self.synchronous
        if self.journal_mode == "DELETE" and self.synchronous == "FULL":
            # There a commit is the removal of the journal, and only EXTRA syncs the removal.
            pragmas["synchronous"] = "EXTRA"
        pragmas["wal_autocheckpoint"] = 0
        if sys.platform == "darwin":
            # There, fsync alone leaves the data in the drive's cache.
            pragmas["fullfsync"] = 1
        return pragmas


class Store:
    """Where jobs are kept. Built by `open`.

    Args:
        settings: Where and how.
        connection: The write connection, open and prepared.
        read_connection: The read connection, open.
        lock: Held around each write transaction.
        guard: Holds the file while it is open.
        identity: Tells whether the file is still at its path.
    """

    def __init__(
        self,
        settings: StoreSettings,
        connection: Connection,
        read_connection: Connection,
        lock: OpeningLock,
        guard: Guard | None = None,
        *,
        identity: FileIdentity | None = None,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._read_connection = read_connection
        self._lock = lock
        self._guard = guard
        self._jobs = Jobs(settings.keep_expired, settings.keep_cancelled)
        self.identity: FileIdentity = identity or FileIdentity(settings.path)
        self.writer: Writer = Writer(
            connection, lock, Checkpointer(settings.path), self.identity, self._jobs.forget
        )
        self.patience: Patience = Patience(
            self.writer, settings.path, settings.last_wait, lock.holders
        )
        self.read: Reader = Reader(read_connection, settings.path, self.writer.refuse)
        self.views: Views = Views(self.read)
        self.news: News = News(self.read)
        self.steering: Steering = Steering(self.writer, self._jobs, settings.wait)
        self._loop = asyncio.create_task(self.writer.run(), name="embedded_tasks writer")

    @classmethod
    async def open(
        cls, settings: StoreSettings, lock: OpeningLock, guard: Guard | None = None
    ) -> Store:
        """Open the file, creating or migrating it as needed.

        Raises:
            StoreFormatError: A newer, foreign or damaged file.
            StoreUnavailableError: Locked or unwritable just now; `last_wait` is waited at most.
        """
        check_version()
        pragmas = settings.pragmas()
        memory = settings.path == ":memory:"
        identity = FileIdentity(settings.path)
        create_file(settings.path)
        connection = connect(settings.path, settings={"busy_timeout": pragmas["busy_timeout"]})
        await connection.open()
        try:
            await connection.run(partial(_prepare_locked, lock, identity, settings))
            if memory:
                return cls(settings, connection, connection, lock)
            reader = connect(settings.path, settings=pragmas, read_only=True)
            await reader.open()
        except BaseException:
            await connection.close()
            raise
        if guard is not None and settings.journal_mode == "WAL":
            guard.hold()
        return cls(settings, connection, reader, lock, guard, identity=identity)

    async def close(self) -> None:
        """Write what waits, then close the file."""
        self.patience.ends(0.0)
        self.writer.close()
        await asyncio.wait([self._loop])
        self.patience.close()
        if self._read_connection is not self._connection:
            await self._read_connection.close()
        # The last connection checkpoints as it closes: not while a sibling can commit.
        wait = self._settings.last_wait
        if self.writer.left or not await Turn(self._lock).take(self._connection, wait):
            _log.error("store.not_closed", file=self._settings.path, hint=_NOT_CLOSED)
            self._connection.leave()
            return
        try:
            if self._guard is not None:
                self._guard.release()
            await self._connection.close()
        finally:
            self._lock.release()

    def hurry(self) -> None:
        """The work ends: after the grace, wait for another process no longer than for a commit."""
        self.patience.ends(self._settings.grace)

    async def environment(self, name: str) -> str:
        """Return the environment that the file belongs to: this one, if none was stored yet."""
        stored: str = await self.writer.submit(Operation(partial(self._jobs.environment), [name]))
        return stored

    async def stored_environment(self) -> str | None:
        """Return the environment that the file belongs to, if it was stored."""
        return await self.read.fact("environment")

    async def set_environment(self, name: str) -> None:
        """Let the file belong to another environment."""
        await self.writer.submit(Operation(partial(self._jobs.set_fact), [("environment", name)]))

    async def probe(self, now: float, wait: float) -> None:
        """Write something, to see whether that can be done; wait so many seconds at most.

        Raises:
            StoreError: It cannot.
        """
        probe = Operation(partial(self._jobs.set_fact), [("last_probe", str(now))])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self.writer.submit(probe)

    async def insert(self, jobs: Sequence[NewJob], *, insist: bool = False) -> None:
        """Store new jobs in one transaction.

        Args:
            jobs: All of them, or none.
            insist: Whether a caller who is cancelled waits for the commit all the same.

        Raises:
            StoreUnavailableError: They are not stored.
        """
        size = sum([len(job.args) for job in jobs])
        operation = Operation(self._jobs.insert, list(jobs), size, undo=self._jobs.withdraw)
        await self.writer.submit(operation, self._settings.wait, insist=insist)

    async def begin(self, ids: Sequence[str], owner: str, now: float) -> set[str]:
        """Start reserved jobs; return which of them were still ours."""
        rows = [(id, owner, now) for id in ids]
        began: set[str] = await self.writer.submit(Operation(self._jobs.begin, rows))
        return began

    async def release(self, ids: Sequence[str], owner: str, now: float) -> list[str]:
        """Give jobs that never started to everybody; return those that are cancelled instead."""
        rows = [(id, owner, now) for id in ids]
        cancelled: list[str] = await self.writer.submit(Operation(self._jobs.release, rows))
        return [id for id in cancelled if id in ids]

    async def settle(self, outcomes: Sequence[Settlement]) -> dict[str, bool]:
        """Write outcomes.

        Returns:
            The ids of the jobs that were still ours; True for one that would be queued again and
            is cancelled instead, because somebody had asked for it.
        """
        size = sum(len(outcome.result or "") for outcome in outcomes)
        settled: dict[str, bool] = await self.writer.submit(
            Operation(self._jobs.settle, list(outcomes), size)
        )
        return settled

    async def claim(self, claim: Claim) -> ClaimResult:
        """Take due jobs, and expire those whose time has passed."""
        # A function of its own, so that no two claims are merged.
        operation = Operation(partial(self._jobs.claim), [claim])
        result: ClaimResult = await self.writer.submit(operation)
        return result

    async def expire(self, now: float) -> list[str]:
        """Expire the waiting jobs whose time has passed; return their ids."""
        expired: list[str] = await self.writer.submit(Operation(partial(self._jobs.expire), [now]))
        return expired

    async def recover(
        self, owner: str, unstarted: Sequence[str], jobs: Sequence[Recovery], now: float
    ) -> None:
        """Put back the jobs of a dead process, then forget the process."""

        def work(connection: sqlite3.Connection, rows: list[Recovery]) -> None:
            if unstarted:
                self._jobs.release(connection, [(id, owner, now) for id in unstarted])
            self._jobs.recover(connection, rows)
            self._jobs.remove_process(connection, [owner])

        await self.writer.submit(Operation(work, list(jobs)))

    async def acquit(self, id: str, owner: str) -> None:
        """Say that a running job is no suspect any more."""
        await self.writer.submit(Operation(self._jobs.acquit, [(id, owner)]))

    async def cancel(self, id: str, reason: str, now: float) -> tuple[str, str | None]:
        """Cancel a waiting job, or ask the owner of a running one.

        Returns:
            "cancelled", "requested" or "unchanged"; and the owner to tell.
        """
        operation = Operation(partial(self._jobs.cancel), [(id, reason, now)])
        answer: tuple[str, str | None] = await self.writer.submit(operation, self._settings.wait)
        return answer

    async def retry(self, id: str, now: float) -> bool:
        """Queue a finished or held job again; return whether its state allowed that."""
        operation = Operation(partial(self._jobs.retry), [(id, now)])
        done: bool = await self.writer.submit(operation, self._settings.wait)
        return done

    async def hold_unknown(self, process: str, tasks: Sequence[int]) -> list[str]:
        """Say which tasks a process does not know; return the ids of jobs held for it."""
        rows = [(process, task) for task in tasks]
        held: list[str] = await self.writer.submit(
            Operation(partial(self._jobs.hold_unknown), rows)
        )
        return held

    async def unhold(self, tasks: Sequence[int]) -> set[str]:
        """Queue held jobs of these tasks; return their ids."""
        ids: set[str] = await self.writer.submit(Operation(partial(self._jobs.unhold), list(tasks)))
        return ids

    async def add_process(self, id: str, pid: int, now: float, *, runs_jobs: bool) -> None:
        """Write down that a process is there."""
        row = {"id": id, "pid": pid, "now": now, "runs_jobs": int(runs_jobs)}
        await self.writer.submit(Operation(partial(self._jobs.add_process), [row]))

    async def remove_process(self, id: str) -> bool:
        """Forget a process that leaves, unless it still owns a job; return whether it is gone."""
        operation = Operation(partial(self._jobs.remove_process), [id])
        try:
            removed: bool = await self.writer.submit(operation)
        except StoreUnavailableError:
            # Whoever finds its lock free forgets it.
            return False
        return removed

    async def index_waiting(self) -> None:
        """Make the index by which the jobs that wait in a queue are counted, unless it is there."""
        await self.writer.submit(Operation(self._jobs.index_waiting, [None]), self._settings.wait)

    async def prune(self, now: float) -> int:
        """Remove one batch of finished jobs whose time of keeping is over; return how many."""
        operation = Operation(partial(self._jobs.prune), [(now, _PRUNE_BATCH)])
        removed: int = await self.writer.submit(operation)
        return removed


def _prepare_locked(
    lock: OpeningLock,
    identity: FileIdentity,
    settings: StoreSettings,
    connection: sqlite3.Connection,
) -> None:
    lock.acquire_within(settings.last_wait)
    try:
        old = is_old(connection, identity.path)
    finally:
        lock.release()
    if old:
        # It may take long, and others go on meanwhile.
        copy_before_migration(connection, identity.path)
    lock.acquire_within(settings.last_wait)
    try:
        prepare(connection, identity.path, settings.pragmas())
        identity.remember()
    finally:
        lock.release()
