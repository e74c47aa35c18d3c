"""Database files to measure with, and the runner on top of one.

What lives here: where files are made, how a runner is opened on one, and how large a row is. What
does not: what is measured. Used by the modules that measure.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.jobs import nothing
from embedded_tasks import TaskRunner
from embedded_tasks.events import Observer

__all__ = ["JOURNAL_MODE", "SYNCHRONOUS", "Place"]

SYNCHRONOUS: Final = "FULL"
JOURNAL_MODE: Final = "WAL"


@dataclass
class Place:
    """A folder on the disk that is measured.

    Args:
        folder: Where files are made; a folder in memory would measure no disk.
    """

    folder: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def fresh(self) -> Path:
        """Return the path of a file that is not there yet."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        return folder / "tasks.db"

    def runner(self, path: Path | None = None, *observers: Observer) -> TaskRunner:
        """Return a runner with the settings that are measured: the default ones."""
        return TaskRunner(
            path or self.fresh(),
            modules=["benchmarks"],
            synchronous=SYNCHRONOUS,
            journal_mode=JOURNAL_MODE,
            observers=observers,
        )

    def with_schema(self) -> Path:
        """Return the path of a file that has the runner's tables, and one job."""
        path = self.fresh()

        async def fill() -> None:
            runner = self.runner(path)
            async with runner:
                await runner.enqueue(nothing, 1)

        asyncio.run(fill())
        return path

    def row_size(self) -> int:
        """Return how many characters a job has in its table."""
        with sqlite3.connect(self.with_schema()) as connection:
            row = connection.execute("SELECT * FROM jobs").fetchone()
        connection.close()
        return sum(len(str(value)) for value in row if value is not None)

    @staticmethod
    def connect(path: Path) -> sqlite3.Connection:
        """Open a file with the standard library, as durable as the runner's."""
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA journal_mode={JOURNAL_MODE}")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        return connection
