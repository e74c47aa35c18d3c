"""Group commit: everything that waits is written in one transaction, with one fsync.

What lives here: the queue of operations and the loop that commits them, one commit in flight at a
time. What does not: statements, which are in `operations.py`. Called by `Store` only.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from embedded_tasks.errors import StoreError, StoreFormatError, StoreUnavailableError
from embedded_tasks.store.callers import Apply, Commit, Deadlines, Debts, Operation, cancel_later
from embedded_tasks.store.checkpoint import Checkpointer
from embedded_tasks.store.connection import Connection, is_undecodable, translated
from embedded_tasks.store.identity import FileIdentity

__all__ = ["WriteLock", "Writer"]

_log = structlog.get_logger("embedded_tasks")

_MAX_ROWS = 1_000
_MAX_BYTES = 4 * 1024 * 1024
_BLOCKED_PAUSE = 5.0


class WriteLock(Protocol):
    """Keeps the writers of all processes apart; blocks the calling thread."""

    def acquire(self) -> None:
        """Wait for the lock."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Writer:
    """The only writer of a process.

    Args:
        connection: The write connection, open.
        lock: Held around each transaction and checkpoint, across processes.
        checkpointer: Decides when the WAL is copied back.
        identity: Tells whether the file is still at its path.
        on_rollback: Called in the connection's thread when a transaction was undone.
    """

    def __init__(
        self,
        connection: Connection,
        lock: WriteLock,
        checkpointer: Checkpointer,
        identity: FileIdentity,
        on_rollback: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self.checkpointer = checkpointer
        self._identity = identity
        self._path = identity.path
        self._on_rollback = on_rollback
        self._pending: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        # Asked for at each operation, it would be a system call (Python before 3.12).
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()
        self._debts = Debts(self._loop, self._append)
        self._nameless: StoreError | None = None
        self._commit_began: float | None = None
        self._has_lock = False
        self._later: asyncio.TimerHandle | None = None
        self.commits: int = 0
        self.last_error: str | None = None
        self.was_full: bool = False
        """Whether the disk was full; whoever has seen that there is room again takes it back."""
        self.refusal: StoreError | None = None
        """Why nothing is written any more: the file is damaged, or not for this runner."""
        self._task: asyncio.Task[Any] | None = None
        self._in_flight: list[Operation] = []
        self.left: bool = False
        """Whether what waited was given up, because another process held the lock at the end."""
        self.on_slow: Callable[[], None] = _do_nothing
        """Called when somebody was told that a commit took too long."""

    async def submit(
        self, operation: Operation, wait: float | None = None, *, insist: bool = False
    ) -> Any:
        """Return the operation's result once it is committed and synced.

        Args:
            operation: What to write.
            wait: Seconds after which the caller is told that it did not work; None waits for ever.
            insist: Come back only after the commit, whatever is cancelled meanwhile; what was
                cancelled finds out at its next await. By default a cancelled caller's operation is
                taken back.

        Raises:
            StoreUnavailableError: Busy, full, read-only, or slower than `wait`; not stored.
            StoreError: Any other error of the store.
        """
        if self._closing:
            raise StoreUnavailableError(f"{self._path} is closed.")
        future = operation.future = (Commit if insist else asyncio.Future)(loop=self._loop)
        self._pending.append(operation)
        self._wake.set()
        if wait is not None:
            self._deadlines.add(future, self._loop.time() + wait)
        try:
            return await future
        except TimeoutError:
            self._give_up(operation, future)
            self.on_slow()
            why = self.stalled(0.0) or ""
            raise StoreUnavailableError(
                f"{self._path} did not commit within {wait:g} s. {why} The jobs "
                "were taken back, or will be as soon as the commit that is under way has ended."
            ) from None
        except asyncio.CancelledError as error:
            if insist and not future.exception():
                cancel_later(error)
                return future.result()
            self._give_up(operation, future)
            raise

    def _give_up(self, operation: Operation, future: asyncio.Future[Any]) -> None:
        """Nobody waits for this operation any more: leave it out, or undo it once it is written."""
        operation.withdrawn = True
        if future.done() and not future.cancelled() and not future.exception():
            self._take_back(operation)

    def _take_back(self, operation: Operation) -> None:
        """Nobody is told any more that these rows are written."""
        if operation.undo is not None:
            self._append(Operation(operation.undo, operation.rows))

    def _append(self, operation: Operation) -> None:
        self._pending.append(operation)
        self._wake.set()

    def stalled(self, longer_than: float) -> str | None:
        """Return what the commit under way waits for, if it takes longer than so many seconds."""
        began = self._commit_began
        if began is None:
            return None
        taken = self._loop.time() - began
        if taken < longer_than:
            return None
        if self._has_lock:
            return f"The disk, or SQLite's own lock, keeps a commit waiting since {taken:.1f} s."
        return f"Another process holds the writers' lock; this one waits since {taken:.1f} s."

    @property
    def waits_for_lock(self) -> bool:
        """Whether the commit under way waits for another process."""
        return self._commit_began is not None and not self._has_lock

    def refuse(self, error: StoreError) -> None:
        """Write nothing any more."""
        self.refusal = error

    async def run(self) -> None:
        """Commit what waits until `close` is called and nothing waits any more."""
        self._task = asyncio.current_task()
        while True:
            batch = self._take()
            if batch:
                try:
                    await self._commit(batch)
                except Exception as error:  # noqa: BLE001  # told to all whom it concerns
                    # Whatever it is, the next batch is written, and nobody waits for ever.
                    _log.exception("loop.failed", loop="writer")
                    self._give_up_all(batch, error)
                # Who was just told, and has more to write, is part of the next commit.
                await asyncio.sleep(0)
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def close(self) -> None:
        """Refuse new operations and let `run` return when the last one is written."""
        self._closing = True
        self._wake.set()
        self._debts.close()
        if self._later is not None:
            self._later.cancel()

    def leave(self, why: str) -> None:
        """Give up all that waits, and write nothing any more; it is as if this process had died."""
        self.left = self._closing = True
        for operation in [*self._in_flight, *self._pending]:
            # Its thread may get the lock yet; then there is nothing for it to write.
            operation.withdrawn = True
            if operation.future is not None and not operation.future.done():
                operation.future.set_exception(StoreUnavailableError(f"{self._path}: {why}"))
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()

    def _take(self) -> list[Operation]:
        batch: list[Operation] = []
        rows = size = 0
        while self._pending and rows < _MAX_ROWS and size < _MAX_BYTES:
            operation = self._pending.popleft()
            if operation.withdrawn:
                continue
            batch.append(operation)
            rows += max(len(operation.rows), 1)
            size += operation.size
        return batch

    async def _commit(self, batch: list[Operation]) -> None:
        self._commit_began = self._loop.time()
        self._in_flight = batch
        failed_before = self.last_error
        try:
            outcomes: Sequence[Any] = await self._connection.run(partial(self._together, batch))
        except Exception as error:  # noqa: BLE001  # told to whom it concerns
            outcomes = await self._after_failure(batch, error)
        self._commit_began = None
        self.commits += 1
        self._tell_of_change(failed_before)
        self._checkpoint_later()
        nameless, self._nameless = self._nameless, None
        for operation, outcome in zip(batch, outcomes, strict=True):
            if nameless is not None and operation.undo is not None:
                # Nobody is told of a job in a file that has no name; all else did happen.
                self._answer(operation, nameless)
                self._take_back(operation)
            else:
                self._answer(operation, outcome)
        self._deadlines.look()

    def _give_up_all(self, batch: list[Operation], error: Exception) -> None:
        """It is not known what of a batch was written: callers are told, and jobs taken back."""
        self._commit_began = None
        self.last_error = f"the writer failed with {error!r}"
        for operation in batch:
            self._take_back(operation)
            if operation.future is not None and not operation.future.done():
                operation.future.set_exception(
                    StoreUnavailableError(f"{self._path}: {self.last_error}.")
                )

    async def _after_failure(self, batch: list[Operation], error: Exception) -> Sequence[Any]:
        """A row that is refused costs only its own operation; a full disk concerns them all."""
        if is_undecodable(error):
            # A row with damaged text: whoever reads it is told, and the others go on.
            self._connection.read_leniently()
        failure = self._translated(error)
        if isinstance(failure, StoreUnavailableError | StoreFormatError) or len(batch) == 1:
            self.last_error = str(failure)
            if isinstance(failure, StoreFormatError):
                self.refuse(failure)
            return [failure] * len(batch)
        try:
            return await self._connection.run(partial(self._one_by_one, batch))
        except Exception as second:  # noqa: BLE001  # as above
            return [self._translated(second)] * len(batch)

    def _tell_of_change(self, failed_before: str | None) -> None:
        if self.last_error is not None and failed_before is None:
            _log.error("store.write_failed", error=self.last_error)
        elif self.last_error is None and failed_before is not None:
            _log.warning("store.writes_again", file=self._path)

    def _checkpoint_later(self) -> None:
        """If a reader is in the way of a large WAL, look again, even if nothing is written then."""
        waits = self._later is not None or self._closing
        if self.checkpointer.blocked and not waits and self.checkpointer.is_large():
            self._later = self._loop.call_later(_BLOCKED_PAUSE, self._checkpoint_now)

    def _checkpoint_now(self) -> None:
        self._later = None
        self.checkpointer.soon()
        self._append(Operation(_write_nothing, []))

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _answer(self, operation: Operation, outcome: Any) -> None:
        failed = isinstance(outcome, Exception)
        future = operation.future
        if future is None:
            if operation.rows and isinstance(outcome, StoreUnavailableError):
                self._debts.add(operation)
            return
        if future.done():
            # Its caller has given up, perhaps at this moment and without having said so yet.
            if not operation.skipped and not failed:
                self._take_back(operation)
        elif failed:
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    # The two below run in the connection's thread.

    def _together(self, batch: list[Operation], connection: sqlite3.Connection) -> list[Any]:
        return self._transaction(connection, partial(self._apply_groups, batch))

    def _one_by_one(self, batch: list[Operation], connection: sqlite3.Connection) -> list[Any]:
        def work(connection: sqlite3.Connection) -> list[Any]:
            outcomes: list[Any] = []
            for operation in batch:
                operation.skipped = operation.withdrawn
                connection.execute("SAVEPOINT operation")
                try:
                    outcomes.append(
                        None if operation.skipped else operation.apply(connection, operation.rows)
                    )
                except Exception as error:  # noqa: BLE001  # told to this caller alone
                    self._on_rollback()
                    connection.execute("ROLLBACK TO operation")
                    outcomes.append(self._translated(error))
                connection.execute("RELEASE operation")
            return outcomes

        return self._transaction(connection, work)

    def _apply_groups(self, batch: list[Operation], connection: sqlite3.Connection) -> list[Any]:
        groups: dict[Apply, list[Any]] = {}
        for operation in batch:
            operation.skipped = operation.withdrawn
            if not operation.skipped:
                groups.setdefault(operation.apply, []).extend(operation.rows)
        results = {apply: apply(connection, rows) for apply, rows in groups.items()}
        return [results.get(operation.apply) for operation in batch]

    def _transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], list[Any]]
    ) -> list[Any]:
        if self.refusal is not None:
            raise self.refusal
        self._has_lock = False
        self._lock.acquire()
        self._has_lock = True
        try:
            if self.left:
                raise StoreUnavailableError(f"{self._path} was left.")
            return self._locked_transaction(connection, work)
        finally:
            self._lock.release()

    def _locked_transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], list[Any]]
    ) -> list[Any]:
        # What is written beside another file would damage it.
        self._identity.check()
        changes = connection.total_changes
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._on_rollback()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                self.was_full = True
                # There may be room in the file, and then the WAL begins anew.
                self.checkpointer.checkpoint(connection)
            raise
        try:
            self._identity.check()
        except StoreError as error:
            self._nameless = error
            self.last_error = str(error)
            return results
        self.checkpointer.after_commit(connection)
        if connection.total_changes != changes:
            # Only what reached the disk shows that it can be written again.
            self.last_error = None
        return results


def _do_nothing() -> None:
    """Nobody asked to be told."""


def _write_nothing(_connection: sqlite3.Connection, _rows: list[Any]) -> None:
    """An operation for the sake of the checkpoint after it."""
