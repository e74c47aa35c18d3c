"""What a test needs beyond Python.

What lives here: a skip with a reason on a person's machine, which is a failure in CI. What does
not: installing it; `.ci/run` does. Called by tests that start other programs.
"""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need_command"]


def need_command(name: str, why: str) -> str:
    """Return the path of a program; without it the test is skipped, and fails in CI.

    Args:
        name: Its name, such as "gcc".
        why: What it is for.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is missing: {why}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
