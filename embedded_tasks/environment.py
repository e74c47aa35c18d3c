"""Whether the file is this runner's: a staging copy must not send production's mails.

What lives here: the environment that is stored in the file, and the refusal of any other. What does
not: what starts and stops for it (`session.py`). Owned by the session.
"""

from __future__ import annotations

import structlog

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.store import Store

__all__ = ["Environment"]

_log = structlog.get_logger("embedded_tasks")


class Environment:
    """Compares the environment of the file with that of the runner.

    Args:
        store: The open store.
        path: The file, for messages.
        name: The runner's environment; None compares nothing.
    """

    def __init__(self, store: Store, path: str, name: str | None) -> None:
        self._store = store
        self._path = path
        self._name = name
        self._paused = False

    async def is_ours(self) -> bool:
        """Return whether this runner may use the file; if not, nothing is written to it.

        A file that says nothing is ours from now on.
        """
        if self._name is None:
            return True
        if self._paused:
            stored = await self._store.stored_environment()
        else:
            stored = await self._store.environment(self._name)
        if stored == self._name:
            self._go_on()
            return True
        if not self._paused:
            self._pause(stored)
        return False

    async def adopt(self) -> None:
        """Let the file belong to this runner's environment.

        Raises:
            StoreError: It cannot be written.
        """
        if self._name is None or not self._paused:
            return
        writer, refusal = self._store.writer, self._store.writer.refusal
        writer.refusal = None
        try:
            await self._store.set_environment(self._name)
        except BaseException:
            writer.refusal = refusal
            raise
        self._go_on()
        _log.warning("file.adopted", file=self._path, environment=self._name)

    def _pause(self, stored: str | None) -> None:
        self._paused = True
        problem = (
            f"{self._path} belongs to the environment {stored!r}, and this runner to "
            f"{self._name!r}: no job is run, stored or changed. Give the runner a file of its own; "
            "or, if this one shall be its own with all jobs that wait in it, call "
            "`await runner.adopt()` once."
        )
        self._store.writer.refuse(StoreUnavailableError(problem))
        _log.error("runner.paused", problem=problem)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._store.writer.refusal = None
