"""Finding the jobs that a filter means, newest first, by the index that knows them best.

What lives here: which index is walked, how far, and what is looked at row by row. What does not:
statements, which are in `queries_reports.sql`. Called by `Views`, in a connection's thread.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from embedded_tasks.job import FINISHED, ShownState
from embedded_tasks.store.filters import JobFilter
from embedded_tasks.store.queries import QUERIES

__all__ = ["DEPTH", "SEARCH_DEPTH", "Found", "find"]

DEPTH: Final = 10_000
"""How many rows are looked at in one go, where no index knows the answer alone."""
SEARCH_DEPTH: Final = 50_000
"""The same for a search in texts."""

_ABOVE_ALL: Final = 2**63 - 1
_SORTABLE: Final = 20_000
_FEW: Final = 1_000
_FIRST_CHUNK: Final = 100
_LARGEST_CHUNK: Final = 4_000
_EARLY, _LATE = -1e18, 1e18

_Keys = Iterator[int]


@dataclass(frozen=True, slots=True)
class Found:
    """Keys of jobs, newest first, and where to go on.

    Args:
        keys: The keys.
        next: Below which key to go on; None when there is no more.
        stopped: Whether as many rows were looked at as may be, before all keys were found.
    """

    keys: list[int]
    next: int | None
    stopped: bool = False


def find(
    connection: sqlite3.Connection, wanted: JobFilter, now: float, *, depth: int | None = None
) -> Found:
    """Return the first keys that a filter means, no more than its limit.

    Args:
        connection: Where to read.
        wanted: The filter.
        now: The wall clock, which tells scheduled jobs from queued ones.
        depth: How many rows may be looked at (default: as the filter needs).
    """
    return _Search(connection, wanted, now).run(
        depth or (SEARCH_DEPTH if wanted.searches else DEPTH)
    )


class _Search:
    def __init__(self, connection: sqlite3.Connection, wanted: JobFilter, now: float) -> None:
        self._connection = connection
        self._wanted = wanted
        self._states = [state.value for state in wanted.states]
        self._tasks = self._numbers()
        self._parameters = self._asked(now)
        self._now = now
        self._low, self._high = self._between()

    def run(self, depth: int) -> Found:
        keys: list[int] = []
        seen, size = 0, _FIRST_CHUNK
        candidates = self._candidates()
        while True:
            chunk = list(islice(candidates, min(size, depth - seen)))
            if not chunk:
                return Found(keys, None)
            seen += len(chunk)
            size = min(size * 4, _LARGEST_CHUNK)
            for key in self._matching(chunk):
                if len(keys) == self._wanted.limit:
                    return Found(keys, keys[-1])
                keys.append(key)
            if len(keys) == self._wanted.limit:
                # Full; whether there is one more is told only where that costs nothing.
                return Found(keys, None if next(candidates, None) is None else keys[-1])
            if seen >= depth:
                return Found(keys, chunk[-1], stopped=True)

    # Where to look.

    def _candidates(self) -> _Keys:
        """Return the keys to look at, newest first; none that is meant is left out."""
        walks = list(self._walks())
        if len(walks) > 1 or (walks and self._states):
            # Where one of them knows only a few jobs, these are looked at, and no others.
            for walk in walks:
                keys = list(islice(_merged(walk()), _FEW + 1))
                if len(keys) <= _FEW:
                    return iter(keys)
        by_state = self._by_state() if self._states else None
        if by_state is not None:
            return by_state
        if walks:
            return _merged(walks[0]())
        return self._by_end() or self._walk("keys_of_all", None)

    def _walks(self) -> Iterator[Callable[[], list[_Keys]]]:
        """Return the indexes that know these jobs, the one that knows the fewest likely first."""
        wanted = self._wanted
        for query, key in (
            ("keys_of_group", wanted.group),
            ("keys_of_owner", wanted.belongs_to),
            ("keys_of_tag", wanted.tag),
        ):
            if key is not None:
                yield partial(self._walk_all, query, [key])
        if self._tasks is not None:
            yield partial(self._walk_all, "keys_of_task", self._tasks)
        if wanted.queue is not None:
            yield partial(self._walk_all, "keys_of_queue", [wanted.queue])

    def _walk_all(self, query: str, keys: Sequence[object]) -> list[_Keys]:
        return [self._walk(query, key) for key in keys]

    def _by_state(self) -> _Keys | None:
        sources: list[_Keys] = []
        for state in self._states:
            source = self._of_state(state)
            if source is None:
                return None
            sources.append(source)
        return _merged(sources)

    def _of_state(self, state: str) -> _Keys | None:
        """Return the jobs of a state; None where there are too many to be put in order."""
        match state:
            case ShownState.RUNNING:
                return self._sorted("some_running")
            case ShownState.RETRYING:
                return self._sorted("some_retrying")
            case ShownState.SCHEDULED | ShownState.QUEUED:
                return self._sorted("some_waiting", later=int(state == ShownState.SCHEDULED))
            case ShownState.SUCCEEDED:
                return self._sorted("some_ended", key=state, **self._ends())
            case _:
                return self._walk("keys_of_notable", state)

    def _by_end(self) -> _Keys | None:
        if self._wanted.finished_after is None and self._wanted.finished_before is None:
            return None
        sources: list[_Keys] = []
        # Most have succeeded: where there are too many, that is seen at once.
        for state in sorted(FINISHED, reverse=True):
            source = self._sorted("some_ended", key=str(state), **self._ends())
            if source is None:
                return None
            sources.append(source)
        return _merged(sources)

    def _ends(self) -> dict[str, float]:
        wanted = self._wanted
        after, before = wanted.finished_after, wanted.finished_before
        return {
            "finished_after": _EARLY if after is None else after,
            "finished_before": _LATE if before is None else before,
        }

    def _walk(self, query: str, key: object) -> _Keys:
        """Walk down an index that has the keys in their order."""
        before, size = self._high, _FIRST_CHUNK
        while True:
            asked = {"key": key, "before": before, "limit": size}
            keys = self._keys(query, asked)
            for seq in keys:
                if seq < self._low:
                    return
                yield seq
            if len(keys) < size:
                return
            before, size = keys[-1], min(size * 4, _LARGEST_CHUNK)

    def _sorted(self, query: str, **more: Any) -> _Keys | None:
        """Take all of an index that has them in another order, unless that is too many."""
        asked = {"limit": _SORTABLE + 1, "now": self._now, **more}
        keys = self._keys(query, asked)
        if len(keys) > _SORTABLE:
            return None
        return iter(sorted((s for s in keys if self._low <= s < self._high), reverse=True))

    def _keys(self, query: str, asked: dict[str, Any]) -> list[int]:
        """Return all keys that a query finds, in its order.

        As one row: between two rows this thread waits for the interpreter, each time behind the
        event loop, and thousands of rows would hold up both.
        """
        (text,) = self._connection.execute(QUERIES[query], asked).fetchone()
        keys: list[int] = json.loads(text)
        return keys

    # What is looked at row by row.

    def _matching(self, keys: list[int]) -> Iterable[int]:
        parameters = self._parameters | {"keys": json.dumps(keys)}
        found = self._keys("matching", parameters)
        wanted = self._wanted
        searches = (
            (wanted.argument, True, False),
            (wanted.error, False, True),
            (wanted.text, True, True),
        )
        for text, in_arguments, in_errors in searches:
            if text is not None and found:
                lowered = _lowered(text)
                asked = {
                    "keys": json.dumps(found),
                    "text": lowered,
                    "escaped": json.dumps(text)[1:-1].lower(),
                    "in_arguments": in_arguments,
                    "in_errors": in_errors,
                }
                found = self._keys("with_text", asked)
        return sorted(found, reverse=True)

    def _asked(self, now: float) -> dict[str, Any]:
        wanted = self._wanted
        return {
            "now": now,
            "states": json.dumps(self._states) if self._states else None,
            "tasks": None if self._tasks is None else json.dumps(self._tasks),
            "queue": wanted.queue,
            "created_after": wanted.created_after,
            "created_before": wanted.created_before,
            "finished_after": wanted.finished_after,
            "finished_before": wanted.finished_before,
            "tag": wanted.tag,
            "belongs_to": wanted.belongs_to,
            "group": wanted.group,
        }

    def _numbers(self) -> list[int] | None:
        if self._wanted.task is None:
            return None
        asked = {"task": self._wanted.task}
        rows = self._connection.execute(QUERIES["numbers_of_task"], asked).fetchall()
        return [row[0] for row in rows]

    def _between(self) -> tuple[int, int]:
        """Return the keys between which the jobs are that were created in the time asked for."""
        wanted = self._wanted
        high = _ABOVE_ALL if wanted.before is None else wanted.before
        low = -1
        if wanted.created_after is not None:
            low = self._key_at(wanted.created_after - _SLACK)
        # What has finished before a time was created before it.
        ends = [
            time for time in (wanted.created_before, wanted.finished_before) if time is not None
        ]
        if ends:
            high = min(high, self._key_at(min(ends) + _SLACK))
        return low, high

    def _key_at(self, time: float) -> int:
        """Return the first key created at a time or later; keys grow with time, nearly."""
        low, high = 0, self._connection.execute(QUERIES["last_key"]).fetchone()[0] or 0
        high += 1
        while low < high:
            middle = (low + high) // 2
            row = self._connection.execute(QUERIES["first_from"], {"seq": middle}).fetchone()
            if row is None or row[1] >= time:
                high = middle
            else:
                low = row[0] + 1
        return low


_SLACK: Final = 60.0
"""Seconds by which the times of neighbours may be in another order than their keys."""


def _merged(sources: Iterable[_Keys]) -> _Keys:
    """Return the keys of several sources in one order, each once."""
    last: int | None = None
    for key in heapq.merge(*sources, reverse=True):
        if key != last:
            last = key
            yield key


def _lowered(text: str) -> str:
    """Return a text as SQLite's lower() writes it: ASCII only."""
    return "".join(char.lower() if char.isascii() else char for char in text)
