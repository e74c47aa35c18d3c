"""The shell block of the README, run as it stands: it kills the app, and the work is done.

What lives here: running it. What does not: what else the pages say (tests/docs). Run by pytest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.sample_process import free_port
from tests.docs.pages import ROOT, Block, blocks_of

SECONDS = 60


def found(page: str, *, language: str, text: str) -> Block:
    return next(
        block
        for block in blocks_of((ROOT / page).read_text())
        if block.language == language and text in block.text
    )


def read_until(shell: subprocess.Popen[str], word: str) -> str:
    assert shell.stdout is not None
    said = []
    for line in shell.stdout:
        said.append(line)
        if word in line:
            break
    return "".join(said)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_job_of_the_quickstart_survives_kill_9(page: str, tmp_path: Path) -> None:
    app = found(page, language="python", text="send_welcome_email")
    kill = found(page, language="sh", text="kill -9")
    start = found(page, language="sh" if page == "README.md" else "console", text="uvicorn main")
    (tmp_path / "main.py").write_text(app.text)
    script = kill.text if start is kill else kill.text + start.text
    port = str(free_port())
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "UVICORN_PORT": port,
        "EMBEDDED_TASKS_TESTING": "0",
    }
    shell = subprocess.Popen(
        ["bash", "-c", script.replace("8000", port)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    limit = threading.Timer(SECONDS, os.killpg, (shell.pid, signal.SIGKILL))
    limit.start()
    try:
        output = read_until(shell, "Welcome")
        assert "Welcome, ann" in output, output
        assert output.index("recovered=1") < output.index("Welcome, ann")
    finally:
        limit.cancel()
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
