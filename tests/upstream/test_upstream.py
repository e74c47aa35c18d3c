"""FastAPI's and Starlette's own tests pass with the runner installed.

What lives here: the three runs. What does not: how they are done (`scripts/upstream_run.py`).
Run in continuous integration, and elsewhere with `-m upstream`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.upstream_run import UNAVAILABLE

pytestmark = pytest.mark.upstream

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("run", ["no-lifespan", "lifespan", "starlette"])
def test_their_own_tests_pass_and_some_of_their_tasks_are_durable(
    run: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "scripts.upstream_run", run]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode == UNAVAILABLE and not os.environ.get("CI"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    with capfd.disabled():
        print(f"\n{done.stdout.strip().splitlines()[-1]}")
