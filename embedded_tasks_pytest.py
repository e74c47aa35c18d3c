"""The pytest plugin: under pytest no runner touches its real file.

What lives here: switching test mode on and off. What does not: anything of the package, so that a
project's tests start as fast as without it, with FastAPI imported under their own warning filters.
Loaded by pytest through its entry point.
"""

from __future__ import annotations

import os

import pytest

__all__ = ["pytest_configure", "pytest_unconfigure"]

_TESTING = "EMBEDDED_TASKS_TESTING"
_BEFORE = pytest.StashKey[str | None]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give every runner of this session, and of processes that it starts, a file of its own.

    A project that wants to decide itself sets EMBEDDED_TASKS_TESTING=0 before pytest starts.
    """
    config.stash[_BEFORE] = os.environ.get(_TESTING)
    os.environ.setdefault(_TESTING, "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the environment as it was."""
    before = config.stash.get(_BEFORE, None)
    if before is None:
        os.environ.pop(_TESTING, None)
    else:
        os.environ[_TESTING] = before
