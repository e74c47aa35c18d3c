"""What most tests of the status routes begin with: an app that stands still, and its operator.

What lives here: fixtures. What does not: what they are made of (`status_app.py`). Called by pytest;
a file whose tests need another runner or app has a fixture of that name itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.web.admin.status_app import StillRunner, operating, status_app


@pytest.fixture
def runner() -> StillRunner:
    return StillRunner()


@pytest.fixture
def app(runner: StillRunner) -> FastAPI:
    return status_app(runner)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with operating(app) as client:
        yield client
