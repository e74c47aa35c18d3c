"""Job ids: UUIDs of version 7, ordered by time (RFC 9562, section 5.7).

What lives here: making them. What does not: who needs one; the maker is injected, so that tests
can make their own. Given to the front door by the runner.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from uuid import UUID

__all__ = ["IdMaker", "uuid7_maker"]

IdMaker = Callable[[], str]
"""Returns a fresh id at each call."""


def uuid7_maker(
    now: Callable[[], float], random_bytes: Callable[[int], bytes] = os.urandom
) -> IdMaker:
    """Return a maker of UUIDv7 texts that never go back within this process.

    Args:
        now: The wall clock, in seconds.
        random_bytes: Where the random part comes from.
    """
    last = 0

    def make() -> str:
        nonlocal last
        # 48 bits of milliseconds and 12 bits below them; a clock that stands or jumps back counts.
        moment = max(int(now() * 1000 * 4096), last + 1)
        last = moment
        tail = int.from_bytes(random_bytes(8)) & 0x3FFF_FFFF_FFFF_FFFF
        milliseconds, below = moment >> 12, moment & 0xFFF
        return str(UUID(int=milliseconds << 80 | 0x7000 << 64 | below << 64 | 0x8 << 60 | tail))

    return make
