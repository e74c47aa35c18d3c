"""The power fails: whatever the disk has kept of what was not synced, no promise is broken.

What lives here: a real process whose writes and syncs are recorded, every disk that a power cut may
leave at every moment, and what must hold on each. What does not: the parts (tests/crash/power).
Judged by what the client was told.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedded_tasks import TaskRunner
from embedded_tasks.errors import StoreError
from tests.crash.harness import LIMIT, now
from tests.crash.power.cuts import Cut, Effort, cuts
from tests.crash.power.disk import Disk
from tests.crash.power.judge import Told, judge, restore, rows_of
from tests.crash.power.recording import ACKNOWLEDGEMENTS, Recording, compile_shim, record
from tests.support.needs import need_command

pytestmark = pytest.mark.anyio

FINISHED = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records the load, once for each set of options.

    Args:
        folder: Where.
        shim: By what.
        known: What was recorded before.
    """

    folder: Path
    shim: Path
    known: dict[str, Recording]

    def record(self, size: int = 1, mode: str = "WAL", synchronous: str = "FULL") -> Recording:
        name = f"{size}-{mode}-{synchronous}"
        if name not in self.known:
            options = {"journal_mode": mode, "synchronous": synchronous}
            self.known[name] = record(self.folder / name, self.shim, size, **options)
        return self.known[name]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    need_command("gcc", "it compiles the library that records what a process writes")
    folder = tmp_path_factory.mktemp("power")
    return Recorder(folder, compile_shim(folder), {})


def lines(recording: Recording) -> list[str]:
    return [line for entry in recording.entries for line in entry.acknowledged()]


async def broken(cut: Cut, folder: Path, mode: str = "WAL") -> list[str]:
    """What is wrong after a cut, or why it cannot be opened."""
    path = restore(folder, cut.contents)
    try:
        return await judge(path, Told.of(cut.said), mode)
    except (StoreError, sqlite3.Error) as error:
        return [repr(error)]


async def check_all(
    recording: Recording, folder: Path, effort: Effort, mode: str = "WAL", seed: int = 1
) -> int:
    """Try all cuts; return how many there were."""
    count = 0
    for cut in cuts(recording, random.Random(seed), effort):
        count += 1
        wrong = await broken(cut, folder / "disk", mode)
        assert not wrong, f"cut at {cut.at}, {cut.how}, seed {seed}: {wrong}"
    print(f"\n{count} disks, {len(recording.entries)} calls, {len(lines(recording))} lines")
    return count


async def first_broken(recording: Recording, folder: Path) -> list[str]:
    """What is wrong at the first cut at which something is."""
    for cut in cuts(recording, random.Random(1), Effort(exhaustive=4)):
        if wrong := await broken(cut, folder / "disk"):
            return wrong
    return []


@pytest.mark.parametrize(("mode", "moments"), [("WAL", 0.6), ("DELETE", 0.08)])
async def test_no_disk_that_a_power_cut_leaves_lacks_an_acknowledged_job(
    recorder: Recorder, tmp_path: Path, mode: str, moments: float
) -> None:
    recording = recorder.record(mode=mode)
    # Three lives of 13 jobs each at least, with a kill, restarts and checkpoints.
    assert len(Told.of(lines(recording)).accepted) >= 39
    effort = Effort(moments=moments, exhaustive=8)
    assert await check_all(recording, tmp_path, effort, mode) > 100


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
@pytest.mark.parametrize(("mode", "moments"), [("WAL", 0.2), ("DELETE", 0.05)])
async def test_no_disk_of_very_many_lacks_an_acknowledged_job(
    recorder: Recorder, tmp_path: Path, mode: str, moments: float, part: int
) -> None:
    seed = random.randrange(1_000_000)
    recording = recorder.record(6, mode=mode)
    effort = Effort(moments=moments, exhaustive=256, sampled=4)
    assert await check_all(recording, tmp_path, effort, mode, seed) > 100


async def test_what_was_accepted_is_done_when_the_power_is_back(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole runner starts on such disks: what was accepted ends, what had ended is left."""
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "")
    rng = random.Random(1)
    everything = list(cuts(recorder.record(), rng, Effort(moments=0.3, exhaustive=4)))
    for number, cut in enumerate(rng.sample(everything, 20)):
        folder = tmp_path / str(number)
        path = restore(folder, cut.contents)
        monkeypatch.setenv("POWER_FOLDER", str(folder))
        told = Told.of(cut.said)
        async with TaskRunner(path, modules=["tests"], synchronous="OFF").open(run_jobs=True):
            await finished(path, told.accepted - told.cancelling)
        log = folder / ACKNOWLEDGEMENTS
        again = Told.of(log.read_text().splitlines() if log.exists() else []).did
        assert told.accepted - told.cancelling <= told.did | again, cut.how
        assert not again & told.settled(), cut.how


async def finished(path: Path, keys: AbstractSet[str]) -> None:
    until = now() + LIMIT
    while True:
        with closing(sqlite3.connect(path)) as connection:
            rows = rows_of(connection)
        if all(rows[key].state in FINISHED for key in keys):
            return
        assert now() < until, rows
        await asyncio.sleep(0.01)


async def test_without_syncs_of_the_commits_jobs_are_found_lost(
    recorder: Recorder, tmp_path: Path
) -> None:
    """The proof that the checks above can fail; with "FULL" they do not."""
    wrong = await first_broken(recorder.record(synchronous="NORMAL"), tmp_path)
    assert wrong
    assert wrong[0].endswith("is lost")


@pytest.mark.parametrize("left_out", [".", "tasks.db", "tasks.db-wal"])
async def test_each_sync_is_needed(recorder: Recorder, tmp_path: Path, left_out: str) -> None:
    """As if the syncs of the folder, or of a file, had not been: something breaks."""
    whole = recorder.record()
    entries = [e for e in whole.entries if e.kind not in "BS" or e.path != left_out]
    assert await first_broken(Recording(whole.folder, entries), tmp_path)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_the_recording_tells_of_every_write(recorder: Recorder, mode: str) -> None:
    """What was recorded adds up to the files that are there."""
    recording = recorder.record(mode=mode)
    disk = Disk("tasks.db")
    for entry in recording.entries:
        disk.take(entry)
    there = {
        path.name: path.read_bytes()
        for path in recording.folder.iterdir()
        if path.is_file() and path.name != ACKNOWLEDGEMENTS
    }
    assert disk.contents(lambda unit, last: last) == there
