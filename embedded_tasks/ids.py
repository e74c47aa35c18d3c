"""Job ids: UUIDs of version 7, ordered by time (RFC 9562, section 5.7).

What lives here: making them. What does not: who needs one; the maker is injected, so that tests
can make their own. Given to the front door by the runner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from struct import iter_unpack

from embedded_tasks.forks import forks

__all__ = ["IdMaker", "id_bytes", "uuid7_maker"]

_POOL = 256
_LENGTH = 16

IdMaker = Callable[[], str]
"""Returns a fresh id at each call."""


def id_bytes(id: str) -> bytes:
    """Return the 16 bytes that stand for a job's id, also for one that somebody spoiled."""
    try:
        found = bytes.fromhex(id.replace("-", ""))
    except ValueError:
        found = b""
    return found if len(found) == _LENGTH else blake2b(id.encode(), digest_size=_LENGTH).digest()


def uuid7_maker(
    now: Callable[[], float], random_bytes: Callable[[int], bytes] = os.urandom
) -> IdMaker:
    """Return a maker of UUIDv7 texts that never go back within this process.

    Args:
        now: The wall clock, in seconds.
        random_bytes: Where the random part comes from.
    """
    last, forked = 0, forks()
    tails: Iterator[tuple[int]] = iter(())

    def make() -> str:
        nonlocal last, forked, tails
        if forked != forks():
            # A forked child takes random bytes of its own.
            forked, tails = forks(), iter(())
        while (found := next(tails, None)) is None:
            # One system call for many ids; threads that meet here do no harm.
            tails = iter_unpack(">Q", random_bytes(8 * _POOL))
        # 48 bits of milliseconds and 12 bits below them; a clock that stands or jumps back counts.
        moment = max(int(now() * 1000 * 4096), last + 1)
        last = moment
        tail = found[0] & 0x3FFF_FFFF_FFFF_FFFF
        milliseconds, below = moment >> 12, moment & 0xFFF
        number = milliseconds << 80 | 0x7000 << 64 | below << 64 | 0x8 << 60 | tail
        # What `str(UUID(int=number))` gives, at a third of its price.
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return make
