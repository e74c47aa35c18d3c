"""Jobs that are due and do not start, and why.

What lives here: looking for them when health asks, by index. What does not: mending. Called by
health.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.store import Store
from embedded_tasks.worker import Worker

__all__ = ["OVERDUE", "STANDSTILL", "overdue_problems"]

OVERDUE = 10.0
"""Seconds that a due job may wait beside a free slot; measured: some milliseconds."""

STANDSTILL = 300.0
"""Seconds for which all slots of a kind may be taken without the end of one attempt."""


async def overdue_problems(
    store: Store,
    tasks: KnownTasks,
    worker: Worker,
    now: float,
    *,
    failures: Mapping[str, str],
    is_paused: Callable[[str], bool],
) -> list[str]:
    """Return what is to be said of due jobs that this process could run and does not.

    Args:
        store: Where they wait.
        tasks: The tasks of this process.
        worker: Its slots.
        now: The wall clock.
        failures: What fails in the background.
        is_paused: Tells of queues whose jobs are meant to wait.
    """
    found: list[str] = []
    if worker.is_stopping:
        return found
    for is_async in (True, False):
        # A task that nobody has looked at yet may be of either kind.
        others = [*tasks.unknown, *tasks.numbers(not is_async)]
        job = await store.read.overdue(others, now - OVERDUE)
        if job is None or is_paused(job.queue) or tasks.kind_of(job.task) is not is_async:
            continue
        late = f"{now - job.due_at:.0f} s"
        waits = f"job {job.id} ({job.task}, queue {job.queue}), which was due {late} ago"
        why = _why(store, failures)
        problem = _of_free(worker, is_async, waits, why) or _of_taken(worker, is_async, waits)
        found += [problem] if problem else []
    return found


def _of_free(worker: Worker, is_async: bool, waits: str, why: str) -> str | None:
    free, kind = worker.free(is_async), _kind(is_async)
    if not free:
        return None
    size = worker.sizes()[kind]
    return f"{free} of {size} {kind} slots are free, and {waits}, does not start: {why}."


def _of_taken(worker: Worker, is_async: bool, waits: str) -> str | None:
    stands, kind = worker.standstill(is_async), _kind(is_async)
    if stands < STANDSTILL:
        return None
    return (
        f"All {worker.sizes()[kind]} {kind} slots are taken, and no attempt has ended for "
        f"{stands:.0f} s, while jobs wait; the first is {waits}. Give the tasks a timeout=, raise "
        f"{'' if is_async else 'sync_'}concurrency=, or restart the app."
    )


def _kind(is_async: bool) -> str:
    return "async" if is_async else "sync"


def _why(store: Store, failures: Mapping[str, str]) -> str:
    if failures:
        return "; ".join(f"{name} failed: {why}" for name, why in failures.items())
    if store.writer.last_error is not None:
        return f"the last write failed: {store.writer.last_error}"
    return "nothing is known to be in its way. If this stays so, restart the process"
