"""The work that is measured: none at all.

What lives here: functions that do nothing, so that what is measured is the way there and back.
What does not: measuring. Enqueued by the other modules.
"""

from __future__ import annotations

__all__ = ["nothing", "nothing_in_a_thread"]


async def nothing(number: int) -> None: ...


def nothing_in_a_thread(number: int) -> None: ...
