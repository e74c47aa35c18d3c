"""What jobs say and what attempts came to: kept in memory, and written in batches.

What lives here: progress, log lines and figures on their way to the store. What does not: the way
of a job itself, which never waits for this. Owned by the session.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from embedded_tasks.attempt import Attempt
from embedded_tasks.clock import Clock, Timer
from embedded_tasks.collector import Collector
from embedded_tasks.errors import StoreError
from embedded_tasks.failure import shown, storable
from embedded_tasks.job import Outcome
from embedded_tasks.store import Notes, Store

__all__ = ["Notebook"]

_log = structlog.get_logger("embedded_tasks")

_SAID_EVERY: Final = 0.5
_FIGURES_EVERY: Final = 10.0
_TIDY_EVERY: Final = 3600.0
_LONGEST_MESSAGE: Final = 500
_LONGEST_LINE: Final = 8_000
_MOST_WAITING: Final = 1024 * 1024


class Notebook:
    """Takes what is said from any thread, and writes it every half second while there is any.

    Args:
        store: Where to.
        clock: Where the time comes from.
        keep_failures: Seconds that a kind of failures is remembered.
        written: Called after each write of what jobs have said.
    """

    def __init__(
        self, store: Store, clock: Clock, keep_failures: float, written: Callable[[], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._keep_failures = keep_failures
        self._written = written
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._progress: dict[str, tuple[Any, ...]] = {}
        self._logs: list[tuple[Any, ...]] = []
        self._size = 0
        self._armed = False
        self._timer: Timer | None = None
        self._slow: Timer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False
        self._tidied_at = clock.monotonic()
        self._collector = Collector()

    # From any thread.

    def progress(
        self, job_id: str, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        """Take a job's progress; only its last one is written."""
        said = None if message is None else storable(str(message)[:_LONGEST_MESSAGE])
        amount = None if total is None else float(total)
        row = (job_id, attempt, float(done), amount, said, self._clock.now())
        with self._lock:
            self._progress[job_id] = row
        self._arm()

    def log(
        self, job_id: str, attempt: int, level: str, text: str, fields: Mapping[str, object]
    ) -> None:
        """Take a line of a job's log."""
        line = storable(str(text)[:_LONGEST_LINE])
        more = {storable(str(name)): shown(value)[:_LONGEST_LINE] for name, value in fields.items()}
        encoded = json.dumps(more) if more else None
        size = len(line) + len(encoded or "") + 32
        row = (job_id, attempt, self._clock.now(), str(level)[:20], line, encoded, size)
        with self._lock:
            if self._size + size > _MOST_WAITING:
                # Faster than the disk: the oldest go, as they would have gone on it.
                half = len(self._logs) // 2
                del self._logs[:half]
                self._size = sum(row[6] for row in self._logs)
            self._logs.append(row)
            self._size += size
        self._arm()

    def _arm(self) -> None:
        with self._lock:
            if self._armed or self._closed:
                return
            self._armed = True
        self._loop.call_soon_threadsafe(self._set_timer)

    # On the loop.

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Count an attempt that has ended."""
        now, job = self._clock.now(), attempt.job
        started = attempt.started_at
        waited = 0.0 if job.due_at is None else started - job.due_at
        self._collector.add(job.task, outcome, now, now - started, waited)
        self._write_soon()

    def crashed(self, task: str) -> None:
        """Count an attempt whose process was found dead."""
        self._collector.add_crash(task, self._clock.now())
        self._write_soon()

    def _write_soon(self) -> None:
        if self._slow is None and not self._closed:
            self._slow = self._clock.call_later(_FIGURES_EVERY, self._start_flush)

    def _set_timer(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = self._clock.call_later(_SAID_EVERY, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        if self._flushing is None and not self._closed:
            self._flushing = asyncio.create_task(self._flush(), name="embedded_tasks notes")
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _task: asyncio.Task[None]) -> None:
        self._flushing = None
        # What came meanwhile waits for the next round.
        with self._lock:
            more = bool(self._progress or self._logs)
            self._armed = more
        if more:
            self._set_timer()

    async def _flush(self) -> None:
        with self._lock:
            progress, self._progress = self._progress, {}
            logs, self._logs = self._logs, []
            self._size = 0
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        notes = Notes(list(progress.values()), logs, self._collector.take())
        if not (notes.progress or notes.logs or notes.metrics):
            return
        try:
            await self._store.steering.note(notes)
            await self._tidy()
        except StoreError as error:
            # Said, and lost: the disk is in trouble, and jobs go first.
            _log.error("notes.not_written", lines=len(logs), error=str(error))
        if progress or logs:
            self._written()

    async def _tidy(self) -> None:
        if self._clock.monotonic() - self._tidied_at >= _TIDY_EVERY:
            self._tidied_at = self._clock.monotonic()
            await self._store.steering.tidy(self._clock.now(), self._keep_failures)

    async def close(self) -> None:
        """Write what is left."""
        self._closed = True
        for timer in (self._timer, self._slow):
            if timer is not None:
                timer.cancel()
        self._timer = None
        if self._flushing is not None:
            await self._flushing
        await self._flush()
