"""Where tasks come from that could not be stored, counted by place.

What lives here: a bounded list. What does not: warning of them (`nondurable`). Owned by the runner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from embedded_tasks.reported import NonDurableSite

__all__ = ["NonDurableSites"]

_MOST: Final = 50
_LONGEST_REASON: Final = 500


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
