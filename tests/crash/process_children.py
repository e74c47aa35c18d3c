"""Child processes that have process files, and a sibling that watches them.

What lives here: starting children that say and hear lines, and noticing their death. What does
not: tests. Called by test_process_files.py.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from textwrap import dedent
from typing import TypeVar

from embedded_tasks.processes import Mark, Peers, probe

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
OWN = "f" * 32
LIMIT = 5.0  # seconds until a test gives up; what is promised is asserted apart

PRELUDE = """
import asyncio, os, signal, subprocess, sys, time
from pathlib import Path
from embedded_tasks.errors import NotStartedError
from embedded_tasks.processes import *

folder, own_id = Path(sys.argv[1]), sys.argv[2]

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def be_born():
    global mailbox, file
    mailbox = Mailbox.create(folder, own_id)
    file = ProcessFile.create(folder, own_id)
"""


class Child:
    """A child process that runs some code, says lines and is told lines."""

    def __init__(self, folder: Path, process_id: str, code: str) -> None:
        self.id = process_id
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + dedent(code), str(folder), process_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def hear(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(LIMIT)

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate()


class Watcher:
    """A living sibling on a real loop: hears of deaths, and probes until it finds the corpse."""

    def __init__(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        self.folder = folder
        self.peers = Peers(folder, OWN, self.hinted, loop)
        self.hints = 0
        self.found: asyncio.Future[tuple[float, list[Mark]]] = loop.create_future()

    def hinted(self, peer_id: str) -> None:
        self.hints += 1
        with probe(self.folder, peer_id) as corpse:
            if corpse is not None and not self.found.done():
                self.found.set_result((time.perf_counter(), list(corpse.marks)))
                corpse.remove()


async def watch_death(folder: Path, end: Callable[[], object]) -> tuple[float, int, list[Mark]]:
    """Return the seconds from a death to its discovery, the number of hints, and the marks."""
    watcher = Watcher(folder)
    watcher.peers.refresh()
    assert len(watcher.peers.ids) == 1
    await asyncio.sleep(0)
    begun = time.perf_counter()
    end()
    async with asyncio.timeout(LIMIT):
        found, marks = await watcher.found
    watcher.peers.close()
    return found - begun, watcher.hints, marks


def open_files_in(folder: Path, pid: int) -> list[str]:
    numbers = Path(f"/proc/{pid}/fd")
    targets = [str(number.readlink()) for number in numbers.iterdir()] if numbers.exists() else []
    return [target for target in targets if target.startswith(str(folder))]


def on_loop(name: str, main: Coroutine[object, object, T]) -> T:
    factory = importlib.import_module(name).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
