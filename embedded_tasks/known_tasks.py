"""Which stored task names this process has the code of.

What lives here: the numbers that a claim may ask for. What does not: the functions themselves,
which the catalogue finds. Used by the worker, built by the runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from embedded_tasks.errors import ConfigurationError, UnknownTaskError
from embedded_tasks.store import Store
from embedded_tasks.task import Task
from embedded_tasks.versions import split_name

__all__ = ["KnownTasks"]

_log = structlog.get_logger("embedded_tasks")


class KnownTasks:
    """The stored task names, told apart into known (async, sync) and unknown.

    A process never claims a name that it does not know; what no living process knows is held.

    Args:
        store: Where unknown names are reported.
        owner: This process.
        find: Returns the task of a name, or raises `UnknownTaskError`.
        held: Told the ids of jobs that are now held.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        find: Callable[[str], Task],
        held: Callable[[list[str]], None],
    ) -> None:
        self._store = store
        self._owner = owner
        self._find = find
        self._held = held
        self._numbers: dict[bool, list[int]] = {True: [], False: []}
        self._kinds: dict[str, bool] = {}
        self.names: dict[int, str] = {}
        self.unknown: dict[int, str] = {}
        self.seen: int = 0

    def numbers(self, is_async: bool) -> list[int]:
        """Return the numbers of the known tasks of one kind."""
        return self._numbers[is_async]

    def is_async(self, name: str) -> bool:
        """Return the kind of a known task."""
        return self._kinds[name]

    def kind_of(self, name: str) -> bool | None:
        """Return the kind of a task that was perhaps not met yet; None where it is not known."""
        try:
            return self._find(name).is_async
        except (UnknownTaskError, ConfigurationError):
            return None

    async def learn(self, rows: Iterable[tuple[int, str]]) -> bool:
        """Sort names that are new here; return whether one of them is known.

        Jobs of a known name that were held for want of code are queued again.
        """
        known: list[int] = []
        unknown: list[int] = []
        for number, name in rows:
            self.seen = max(self.seen, number)
            if number in self.names or number in self.unknown:
                continue
            (known if self._sort(number, name) else unknown).append(number)
        if known:
            await self._store.unhold(known)
        if unknown:
            await self.hold(unknown)
        return bool(known)

    async def hold(self, unknown: Sequence[int] = ()) -> None:
        """Hold the jobs of tasks that no living process knows.

        Args:
            unknown: Further numbers that this process does not know.
        """
        held = await self._store.hold_unknown(self._owner, unknown)
        if held:
            self._held(held)

    def _sort(self, number: int, name: str) -> bool:
        try:
            task = self._find(name)
        except (UnknownTaskError, ConfigurationError) as error:
            self.unknown[number] = str(error)
            _log.warning("task.unknown", task=name, reason=str(error))
            return False
        self.names[number] = name
        self._kinds[split_name(name)[0]] = task.is_async
        self._numbers[task.is_async].append(number)
        return True
