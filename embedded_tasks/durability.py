"""How safe what is stored is: the file, its log, its disk, and who has it open.

What lives here: looking, by `os.stat` and SQLite's own settings. What does not: judging
(`health`). Called by `reports`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes import probe
from embedded_tasks.reported import Durability, ProcessReport
from embedded_tasks.session import Session
from embedded_tasks.sites import NonDurableSites
from embedded_tasks.store import has_wal_reset_bug

__all__ = ["durability_of"]

_SYNCHRONOUS: Final = {0: "off", 1: "normal", 2: "full", 3: "extra"}


async def durability_of(session: Session, non_durable: NonDurableSites) -> Durability:
    """Look at a session's file.

    Raises:
        StoreUnavailableError: It is not where it was, so that nothing of it can be promised.
    """
    # The writer's `check` is for its own thread: it remembers what it saw, and may read the file.
    problem = session.store.identity.problem()
    if problem is not None:
        raise StoreUnavailableError(problem)
    path = session.path
    settings = await session.store.views.pragmas(["journal_mode", "synchronous", "user_version"])
    found = session.recovered
    checkpoints = session.store.writer.checkpointer
    return Durability(
        path=path,
        size=_size(path),
        wal_size=_size(f"{path}-wal"),
        free=_free(path),
        checkpointed_at=_changed(path) if settings["journal_mode"] == "wal" else None,
        checkpoint_frames=checkpoints.frames,
        checkpoints=checkpoints.checkpoints,
        journal_mode=settings["journal_mode"],
        synchronous=_SYNCHRONOUS.get(settings["synchronous"], "unknown"),
        sqlite=sqlite3.sqlite_version,
        wal_reset_bug=has_wal_reset_bug(sqlite3.sqlite_version_info),
        schema=settings["user_version"],
        processes=await _processes(session),
        recovered=found.recovered,
        recovered_processes=list(found.processes),
        recovered_held=len(found.held),
        non_durable=non_durable.total,
        non_durable_sites=non_durable.list(),
    )


async def _processes(session: Session) -> list[ProcessReport]:
    running = await session.store.views.running_by_process()
    reports = []
    for row in await session.store.read.processes():
        lock, why = "ours", None
        if row.id != session.process_id:
            lock, why = _lock(session, row.id)
        reports.append(
            ProcessReport(
                row.id, row.pid, row.started_at, row.runs_jobs, lock, why, running.get(row.id, 0)
            )
        )
    return reports


def _lock(session: Session, process_id: str) -> tuple[str, str | None]:
    found = probe(session.folder, process_id)
    with found as corpse:
        if corpse is not None:
            return "free", None
        return ("unknown", found.undecided) if found.undecided else ("held", None)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # the file itself is never opened here
    except OSError:
        return 0


def _changed(path: str) -> float | None:
    """Return when the file was written last, which only a checkpoint does to it."""
    try:
        return os.stat(path).st_mtime  # noqa: PTH116  # as above
    except OSError:
        return None


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(Path(path).absolute().parent).free
    except OSError:
        return None
