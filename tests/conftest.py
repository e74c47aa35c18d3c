"""What every test shares.

What lives here: the one async backend, and what a quick run leaves out. What does not: fixtures of
one family of tests, which are beside them. Called by pytest.
"""

from __future__ import annotations

import faulthandler
import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the long soaks (marker: slow)")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not name
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    if not (config.getoption("--soak") or os.environ.get("EMBEDDED_TASKS_SOAK") == "1"):
        _skip(items, "slow", "a long soak: --soak runs it")
    # They need another environment and the network, so a quick run does without.
    if not (os.environ.get("CI") or "upstream" in config.option.markexpr):
        _skip(items, "upstream", "FastAPI's and Starlette's own tests: -m upstream runs them")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _time_for_a_soak(request: pytest.FixtureRequest) -> None:
    """What ends a run that hangs (`faulthandler_timeout`) would end a soak in its middle."""
    if request.node.get_closest_marker("slow"):
        faulthandler.cancel_dump_traceback_later()
