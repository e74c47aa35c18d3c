"""The stores that the contract is run for.

What lives here: one fixture. What does not: the contract. Called by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedded_tasks.store import Store
from tests.support.stores import opened


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    path = str(tmp_path / "tasks.db") if request.param == "file" else ":memory:"
    async with opened(path) as store:
        yield store
