"""Group commit: everything that waits is written in one transaction, with one fsync.

What lives here: the queue of operations and the loop that commits them, one commit in flight at a
time. What does not: statements, which are in `operations.py`. Called by `Store` only.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from embedded_tasks.errors import StoreFormatError, StoreUnavailableError
from embedded_tasks.store.checkpoint import Checkpointer
from embedded_tasks.store.connection import Connection, translated

__all__ = ["Apply", "Operation", "WriteLock", "Writer"]

_MAX_ROWS = 1_000
_MAX_BYTES = 4 * 1024 * 1024

Apply = Callable[[sqlite3.Connection, list[Any]], Any]


class WriteLock(Protocol):
    """Keeps the writers of all processes apart; blocks the calling thread."""

    def acquire(self) -> None:
        """Wait for the lock."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


@dataclass(slots=True, eq=False)
class Operation:
    """Rows to be written, and the function that writes them.

    Operations with the same `apply` in one batch are written by one call, so their results are
    shared. `undo` writes off an operation that was committed after its caller had given up.
    """

    apply: Apply
    # Not shown: aiosqlite's debug log writes what it runs, and these hold arguments.
    rows: list[Any] = field(repr=False)
    size: int = 0
    undo: Operation | None = None
    future: asyncio.Future[Any] | None = field(default=None, repr=False)
    withdrawn: bool = False
    skipped: bool = False


class Writer:
    """The only writer of a process.

    Args:
        connection: The write connection, open.
        lock: Held around each transaction and checkpoint, across processes.
        checkpointer: Decides when the WAL is copied back.
        path: The file, for messages.
        on_rollback: Called in the connection's thread when a transaction was undone.
    """

    def __init__(
        self,
        connection: Connection,
        lock: WriteLock,
        checkpointer: Checkpointer,
        path: str,
        on_rollback: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._checkpointer = checkpointer
        self._path = path
        self._on_rollback = on_rollback
        self._pending: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self.commits: int = 0
        self.last_error: str | None = None

    async def submit(self, operation: Operation, wait: float | None = None) -> Any:
        """Return the operation's result once it is committed and synced.

        Args:
            operation: What to write.
            wait: Seconds after which the caller is told that it did not work; None waits for ever.

        Raises:
            StoreUnavailableError: Busy, full, read-only, or slower than `wait`; not stored.
            StoreError: Any other error of the store.
        """
        if self._closing:
            raise StoreUnavailableError(f"{self._path} is closed.")
        loop = asyncio.get_running_loop()
        future = operation.future = loop.create_future()
        self._pending.append(operation)
        self._wake.set()
        # Half of what `asyncio.timeout` costs, at every enqueue.
        timer = None if wait is None else loop.call_later(wait, _too_late, future)
        try:
            return await future
        except TimeoutError:
            self._give_up(operation, future)
            raise StoreUnavailableError(
                f"{self._path} did not commit within {wait:g} s. The jobs were taken back, or will "
                "be as soon as the commit that is under way has ended."
            ) from None
        except asyncio.CancelledError:
            self._give_up(operation, future)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self, operation: Operation, future: asyncio.Future[Any]) -> None:
        """Nobody waits for this operation any more: leave it out, or undo it once it is written."""
        operation.withdrawn = True
        if operation.undo and future.done() and not future.cancelled() and not future.exception():
            self._pending.append(operation.undo)
            self._wake.set()

    async def run(self) -> None:
        """Commit what waits until `close` is called and nothing waits any more."""
        while True:
            batch = self._take()
            if batch:
                await self._commit(batch)
            elif self._closing:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def close(self) -> None:
        """Refuse new operations and let `run` return when the last one is written."""
        self._closing = True
        self._wake.set()

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
        outcomes: Sequence[Any]
        try:
            outcomes = await self._connection.run(partial(self._together, batch))
        except Exception as error:  # noqa: BLE001  # told to whom it concerns
            outcomes = await self._after_failure(batch, error)
        self.commits += 1
        for operation, outcome in zip(batch, outcomes, strict=True):
            self._answer(operation, outcome)

    async def _after_failure(self, batch: list[Operation], error: Exception) -> Sequence[Any]:
        """A row that is refused costs only its own operation; a full disk concerns them all."""
        failure = self._translated(error)
        if isinstance(failure, StoreUnavailableError | StoreFormatError) or len(batch) == 1:
            self.last_error = str(failure)
            return [failure] * len(batch)
        try:
            return await self._connection.run(partial(self._one_by_one, batch))
        except Exception as second:  # noqa: BLE001  # as above
            return [self._translated(second)] * len(batch)

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _answer(self, operation: Operation, outcome: Any) -> None:
        failed = isinstance(outcome, Exception)
        future = operation.future
        if future is None:
            return
        if future.done():
            # Its caller has given up, perhaps at this moment and without having said so yet.
            if operation.undo and not operation.skipped and not failed:
                self._pending.append(operation.undo)
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
        self._lock.acquire()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._on_rollback()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._checkpointer.after_commit(connection)
            self.last_error = None
            return results
        finally:
            self._lock.release()


def _too_late(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
