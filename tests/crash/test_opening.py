"""A process begins while another one, which was stopped, keeps the writers' lock.

What lives here: that its start ends in time, says who is in the way, and blocks no event loop. What
does not: how it leaves (`test_leaving.py`), and processes that run (`test_disk.py`).
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from pathlib import Path

import pytest

from embedded_tasks import TaskRunner
from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes import WritersLock, processes_folder
from tests.crash.harness import Child, Place, wait_until

pytestmark = pytest.mark.anyio

WAIT = 1.0  # the least that a start waits
LONGEST_TURN = 0.5  # of the event loop; measured 0.01
HOLD = """
import os, pathlib, sys
from embedded_tasks.processes import WritersLock
with WritersLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def stopped_holder(place: Place, folder: Path) -> Child:
    """Start a process that takes the lock and is stopped then."""
    holder = place.script(HOLD.replace("sys.argv[1]", repr(str(folder))))
    assert holder.popen.stdout is not None
    assert holder.popen.stdout.readline() == b"held\n"
    holder.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{holder.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    return holder


async def longest_turn(until: asyncio.Event) -> float:
    longest, before = 0.0, time.monotonic()
    while not until.is_set():
        await asyncio.sleep(0.01)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    return longest


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
async def test_a_start_beside_a_stopped_writer_ends_in_time_and_names_it(
    place: Place, end: signal.Signals
) -> None:
    async with TaskRunner(place.file):
        pass
    folder = processes_folder(place.file)
    holder = stopped_holder(place, folder)
    over = asyncio.Event()
    watch = asyncio.create_task(longest_turn(over))
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="keeps the writers' lock") as caught:
        async with TaskRunner(place.file, store_wait=WAIT):
            pass
    taken = time.monotonic() - begun
    over.set()
    longest = await watch
    print(f"\nrefused after {taken:.2f} s; the loop's longest turn {longest * 1000:.0f} ms")
    assert f"pid {holder.pid}" in str(caught.value)
    assert WAIT <= taken < WAIT * 10
    assert longest < LONGEST_TURN
    assert place.process_files() == []

    holder.signal(end)
    assert holder.popen.stdin is not None
    holder.popen.stdin.close()
    holder.wait()
    # The start that gave up has taken nothing with it: the next one gets the lock.
    async with TaskRunner(place.file, store_wait=WAIT) as runner:
        assert sum((await runner.counts()).values()) == 0
    assert place.is_sound()


async def test_a_start_whose_sibling_is_stopped_in_its_middle_ends_in_time_and_names_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is open by then, and what this process writes of itself waits."""
    folder = processes_folder(place.file)
    async with TaskRunner(place.file):
        pass
    holders: list[Child] = []
    hold = WritersLock.release
    turns = 2  # opening the file takes the lock twice

    def release_and_lose_it(lock: WritersLock) -> None:
        nonlocal turns
        hold(lock)
        turns -= 1
        if turns == 0:
            holders.append(stopped_holder(place, folder))

    monkeypatch.setattr(WritersLock, "release", release_and_lose_it)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="holds the writers' lock") as caught:
        async with TaskRunner(place.file, store_wait=WAIT):
            pass
    assert WAIT <= time.monotonic() - begun < WAIT * 20
    assert f"pid {holders[0].pid}" in str(caught.value)
    holders[0].kill()
    # What still waited in a thread has ended by itself, and is in nobody's way.
    async with TaskRunner(place.file, store_wait=WAIT):
        names = [thread.name for thread in threading.enumerate()]
    assert "embedded_tasks lock" not in names
    assert place.process_files() == []
    assert place.is_sound()


def test_a_start_waits_for_a_writer_that_ends_in_time(place: Place) -> None:
    folder = processes_folder(place.file)
    place.worker().leave()
    holder = stopped_holder(place, folder)
    worker = place.begin_worker(store_wait=60.0)
    wait_until(place.process_files, "it has begun")
    holder.kill()
    worker.ready()
    worker.ask("enqueue", task="work", keys=["a"], args=[0.0])
    place.wait_for("ended", ["a"])
    worker.leave()
    assert place.failures() == []
