"""The end of the interpreter while a thread of a task still runs.

What lives here: what a real Python says as it ends. What does not: who gets the job then
(the other files of this folder). Called by pytest.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, threading
from embedded_tasks import TaskRunner

started = threading.Event()

def block():
    started.set()
    threading.Event().wait()

async def main():
    runner = TaskRunner("tasks.db", modules=["blocking"], shutdown_grace=0, cancel_patience=0)
    async with runner.open(run_jobs=True):
        await runner.enqueue(block)
        await asyncio.to_thread(started.wait)

if __name__ == "__main__":
    import blocking
    block, started = blocking.block, blocking.started
    asyncio.run(main())
"""


def test_the_interpreter_ends_in_silence_beside_a_thread_that_cannot_be_stopped(
    tmp_path: Path,
) -> None:
    (tmp_path / "blocking.py").write_text(PROGRAM)
    found = subprocess.run(
        [sys.executable, "-W", "error", "blocking.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stderr == ""
    assert found.returncode == 0
    assert "runner.stopped" in found.stdout
