"""What could not be stored: by the place that it comes from, and by what went wrong.

What lives here: a bounded list, and telling of refused requests. What does not: warning of tasks
(`nondurable`). Owned by the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from embedded_tasks.reported import NonDurableSite

__all__ = ["NonDurableSites", "Refusals"]

_log = structlog.get_logger("embedded_tasks")

_MOST: Final = 50
_LONGEST_REASON: Final = 500
_TOLD_EVERY: Final = 60.0
_MOST_CAUSES: Final = 20


class NonDurableSites:
    """Counts non-durable tasks by the line that added them.

    Args:
        now: The wall clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sites: dict[tuple[str, int], NonDurableSite] = {}
        self.total: int = 0

    def add(self, file: str, line: int, reason: str) -> None:
        """Count one."""
        self.total += 1
        now = self._now()
        key = (file, line)
        site = self._sites.get(key)
        if site is None and len(self._sites) >= _MOST:
            return
        site = site or NonDurableSite(file, line, "", 0, now)
        self._sites[key] = replace(
            site, reason=reason[:_LONGEST_REASON], count=site.count + 1, last_at=now
        )

    def list(self) -> list[NonDurableSite]:
        """Return the places, the one that counts most first."""
        return sorted(self._sites.values(), key=lambda site: -site.count)


class Refusals:
    """Logs requests whose tasks could not be stored: each cause at once, and then once a minute.

    Args:
        monotonic: A clock that never jumps, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._causes: dict[str, tuple[float, int]] = {}

    def add(self, path: str | None, error: Exception) -> None:
        """Count a request, and log it if it is time."""
        cause, now = str(error), self._monotonic()
        told_at, requests = self._causes.pop(cause, (now - _TOLD_EVERY, 0))
        requests += 1
        if now - told_at >= _TOLD_EVERY:
            _log.error("jobs.not_stored", path=path, error=cause, requests=requests)
            told_at, requests = now, 0
        self._causes[cause] = told_at, requests
        if len(self._causes) > _MOST_CAUSES:
            del self._causes[next(iter(self._causes))]
