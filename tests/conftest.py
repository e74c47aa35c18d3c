"""What every test shares.

What lives here: the one async backend, and the switch for long soaks. What does not: fixtures of
one family of tests, which are beside them. Called by pytest.
"""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the long soaks (marker: slow)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak") or os.environ.get("EMBEDDED_TASKS_SOAK") == "1":
        return
    skip = pytest.mark.skip(reason="a long soak: --soak runs it")
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
