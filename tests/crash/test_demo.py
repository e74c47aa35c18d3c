"""The demo's story: work, SIGKILL in the middle of it, start again, and nothing is lost.

What lives here: running it. What does not: what it consists of (scripts/demo_check.py). Run by
pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


def test_what_the_sample_app_accepted_is_done_although_it_is_killed_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "scripts.demo_run", "--check"],
        cwd=ROOT,
        env={**os.environ, "EMBEDDED_TASKS_TESTING": "0"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("SIGKILL, with") == 2
