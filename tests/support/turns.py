"""Turns of the event loop, where a test has no event to wait on.

What lives here: `until`. What does not: time, which stands still (`clock.py`). Called by tests of
what happens on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["turns", "until"]


async def turns(count: int = 10) -> None:
    """Give the loop some turns, after which what needs no thread has happened."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(true: Callable[[], object]) -> None:
    """Give the loop turns until this is true; a test that waits in vain is ended by pytest."""
    while not true():  # noqa: ASYNC110  # threads have no event of the loop
        await asyncio.sleep(0)
