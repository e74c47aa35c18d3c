"""What more than one file of unit tests begins with.

What lives here: fixtures. What does not: what they are made of (`tests/support`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.workers import Shop, shop


@pytest.fixture
async def at() -> AsyncIterator[Shop]:
    async with shop(slots=(2, 2)) as at:
        yield at
