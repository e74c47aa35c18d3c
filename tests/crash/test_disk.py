"""A disk that is full, read-only, slow or failing: what clients are told, and that nothing is lost.

What lives here: real servers on real or really failing disks. What does not: files that somebody
damages (`test_file_faults.py`), and the power (`test_power_loss.py`).
"""

from __future__ import annotations

import errno
import http.client
import os
import resource
import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from embedded_tasks.processes import lock_holders, processes_folder
from embedded_tasks.store import has_wal_reset_bug
from tests.crash.disk.serving import Faults, begin, compile_faults, serve, small_disk
from tests.crash.harness import LIMIT, Place, wait_until


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(place: Place, library: Path) -> Faults:
    return Faults(place, library)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(place: Place) -> None:
    remount = small_disk(place, "2m")
    site = serve(place)
    assert site.takes_requests()
    number = 0
    while site.post(f"fill{number}", size=50_000).status == 202:
        number += 1
        assert number < 500
    # From the first refusal on: whoever asks next is told, whether or not a little fits in.
    assert not site.takes_requests()
    # Every one of them is a clear answer, and the server serves what needs no disk.
    for again in range(5):
        assert site.post(f"full{again}", size=50_000).status == 503
        assert not site.takes_requests()
        assert not site.takes_requests()
    assert site.is_up()
    (problem,) = site.problems()
    assert "full" in problem
    assert "make room on it" in problem
    assert "disk is full" in site.logged(place, "store.write_failed")[0]["error"]
    remount("size=4m")  # a small volume, of which a half is room
    taken = site.comes_back("full")
    print(f"\n{number} accepted until the disk was full; well again after {taken:.2f} s")
    site.lost_nothing(place)
    assert site.logged(place, "store.writes_again")
    site.kill()
    assert place.is_sound()


def test_a_start_on_a_full_disk_is_refused_and_works_when_there_is_room(place: Place) -> None:
    small_disk(place, "2m")
    before = serve(place)
    assert before.post("before").status == 202
    place.wait_for("ended", ["before"])
    before.kill()
    rest = place.folder / "rest"
    with suppress(OSError), rest.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    site = begin(place, None, {})
    assert site.wait() != 0
    said = "\n".join(map(str, place.failures()))
    assert "StoreUnavailableError" in said
    assert "full" in said or "No space left" in said
    rest.unlink()
    again = serve(place)
    assert again.post("after").status == 202
    again.lost_nothing(place)
    # Such a disk is gone with the machine, which is said at each start.
    assert "gone at the next reboot" in again.logged(place, "store.place")[0]["warning"]
    again.kill()
    assert place.is_sound()


def test_a_start_on_a_read_only_disk_is_refused_and_works_when_it_can_be_written(
    place: Place,
) -> None:
    remount = small_disk(place, "4m")
    first = serve(place)
    assert first.post("before").status == 202
    first.kill()
    remount("ro")
    site = begin(place, None, {})
    assert site.wait() != 0
    said = "\n".join(map(str, place.failures()))
    assert "ConfigurationError" in said
    assert "is on a read-only file system" in said
    remount("rw")
    again = serve(place)
    again.accepted += first.accepted
    again.lost_nothing(place)
    again.kill()
    assert place.is_sound()


def test_a_disk_that_turns_read_only_refuses_and_goes_on_when_it_can_be_written(
    place: Place, faults: Faults
) -> None:
    site = serve(place, preload=faults.preload)
    assert site.post("before").status == 202
    site.ask("POST", "/long/during", seconds=1.0)
    site.accepted.append("during")
    place.wait_for("started", ["during"])
    faults.set(error=errno.EROFS)
    for number in range(5):
        assert site.post(f"ro{number}").status == 503
        assert not site.takes_requests()
    # Its outcome cannot be stored now; it is not dropped.
    place.wait_for("ended", ["during"])
    assert any("cannot be written" in problem for problem in site.problems())
    faults.set()
    site.comes_back("ro")
    site.lost_nothing(place)
    wait_until(lambda: place.states() == {"succeeded": len(site.accepted)}, limit=5)
    site.kill()
    assert place.is_sound()


def test_a_disk_that_cannot_sync_refuses_and_goes_on_when_it_can(
    place: Place, faults: Faults
) -> None:
    site = serve(place, preload=faults.preload)
    assert site.post("before").status == 202
    faults.set(sync_error=errno.EIO)
    for number in range(5):
        assert site.post(f"io{number}").status == 503
        assert not site.takes_requests()
    assert any("The disk fails" in problem for problem in site.problems())
    faults.set()
    site.comes_back("io")
    site.lost_nothing(place)
    site.kill()
    assert place.is_sound()


def test_a_sync_that_hangs_costs_no_client_more_than_the_stores_wait(
    place: Place, faults: Faults
) -> None:
    site = serve(place, preload=faults.preload, store_wait=0.5)
    assert site.post("before").status == 202
    faults.set(sync_delay=60.0)
    begun = time.monotonic()
    assert site.post("slow0").status == 503
    assert site.post("slow1").status == 503
    # The loop goes round meanwhile: two refusals take no longer than the first sync.
    assert site.is_up()
    assert time.monotonic() - begun < 30
    wait_until(lambda: any("keeps a commit waiting" in text for text in site.problems()))
    assert site.logged(place, "store.stalled")
    faults.set()
    site.comes_back("slow")
    # What came too late is taken back, although it was committed after all.
    site.lost_nothing(place)
    wait_until(lambda: set(place.states()) == {"succeeded"}, "the outcomes are stored")
    site.kill()
    assert place.is_sound()
    assert set(place.states()) == {"succeeded"}
    assert sum(place.states().values()) == len(site.accepted)


@pytest.mark.parametrize(
    "seconds", [1.5, pytest.param(30.0, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_foreign_writer_is_named_and_the_stores_wait_holds(place: Place, seconds: float) -> None:
    site = serve(place, store_wait=0.5)
    assert site.post("before").status == 202
    with closing(sqlite3.connect(place.file, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until or number < 3:
            assert site.post(f"busy{number}").status == 503
            number += 1
        text = " ".join(site.problems())
        assert f"pid {os.getpid()}" in text, text
        affected = has_wal_reset_bug(sqlite3.sqlite_version_info)
        assert ("the WAL-reset bug" in text) is affected
        assert ("seen only while its transaction" in text) is affected
        assert bool(site.logged(place, "store.foreign_writer")) is affected
        foreign.execute("ROLLBACK")
    site.comes_back("busy")
    site.lost_nothing(place)
    site.kill()
    assert place.is_sound()


def test_a_reader_that_stays_lets_the_wal_grow_is_named_and_the_wal_shrinks_again(
    place: Place,
) -> None:
    site = serve(place)
    wal = Path(f"{place.file}-wal")
    assert site.post("before").status == 202
    with closing(sqlite3.connect(place.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        for number in range(72):
            assert site.post(f"large{number}", size=1_000_000).status == 202
        assert wal.stat().st_size > 64 * 1024 * 1024
        (problem,) = site.problems()
        assert "has grown to" in problem
        assert f"pid {os.getpid()}" in problem
    # By itself, although nobody writes.
    taken = wait_until(lambda: wal.stat().st_size < 16 * 1024 * 1024, "the WAL shrinks", 60)
    print(f"\nthe WAL was cut {taken:.1f} s after its reader had gone")
    assert site.problems() == []
    site.lost_nothing(place)


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_a_sibling_that_stops_in_a_commit_is_named_and_its_end_frees_the_others(
    place: Place, faults: Faults, end: signal.Signals
) -> None:
    stopped = serve(place, preload=faults.preload)
    site = serve(place, store_wait=0.5)
    assert stopped.post("before").status == 202
    wait_until(lambda: place.states() == {"succeeded": 1}, "its outcome is stored")
    faults.set(sync_delay=20.0)
    answers: list[int] = []

    def ask() -> None:
        with suppress(OSError):
            answers.append(stopped.ask("POST", "/jobs/stopped").status)

    asking = threading.Thread(target=ask)
    asking.start()
    folder = processes_folder(place.file)
    wait_until(lambda: lock_holders(folder) == [stopped.pid], "it holds the writers' lock")
    stopped.signal(signal.SIGSTOP)
    # It takes a moment; a commit that ends in it would free the lock.
    stat = Path(f"/proc/{stopped.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    faults.set()
    try:
        for number in range(3):
            assert site.post(f"held{number}").status == 503
        assert site.is_up()
        text = " ".join(site.problems())
        assert "Another process holds the writers' lock" in text
        assert f"pid {stopped.pid}" in text
        assert f"pid {stopped.pid}" in site.logged(place, "store.stalled")[0]["problem"]
    finally:
        stopped.signal(end)
        asking.join()
    site.comes_back("held")
    site.accepted += ["before", *(["stopped"] if answers == [202] else [])]
    site.lost_nothing(place)
    site.kill()
    stopped.kill()
    assert place.is_sound()


def test_a_process_that_may_open_no_more_files_loses_nothing_and_goes_on(place: Place) -> None:
    site = serve(place)
    assert site.post("before").status == 202
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=LIMIT)) as client:
        client.request("GET", "/ready")
        client.getresponse().read()
        opened = len(list(Path(f"/proc/{site.pid}/fd").iterdir()))
        old = resource.prlimit(site.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (opened, old[1]))
        for number in range(20):
            # The job itself cannot open its log, and is retried.
            client.request("POST", f"/jobs/files{number}?size=20000&attempts=100")
            response = client.getresponse()
            response.read()
            assert response.status in (202, 503)
            ledger = site.accepted if response.status == 202 else site.refused
            ledger.append(f"files{number}")
        client.request("GET", "/health")
        assert client.getresponse().status == 200
    resource.prlimit(site.pid, resource.RLIMIT_NOFILE, old)
    wait_until(site.is_up, "it accepts connections again")
    site.comes_back("files")
    site.lost_nothing(place)
    site.kill()
    assert place.is_sound()


def test_a_clock_that_is_put_back_stalls_nothing_that_was_due(place: Place, faults: Faults) -> None:
    site = serve(place, preload=faults.preload, concurrency=1)
    faults.set(clock=86_400)
    for number in range(4):
        assert site.ask("POST", f"/long/back{number}", seconds=0.3).status == 202
        site.accepted.append(f"back{number}")
    place.wait_for("started", ["back0"])
    faults.set()
    # Those that wait are dated tomorrow; by what the clock says now they would wait for a day.
    site.lost_nothing(place)
    assert site.post("after").status == 202
    site.lost_nothing(place)
    assert site.problems() == []


def test_a_clock_that_is_put_back_while_nobody_is_there_stalls_nothing(
    place: Place, faults: Faults
) -> None:
    faults.set(clock=86_400)
    site = serve(place, preload=faults.preload, concurrency=0)
    for number in range(3):
        assert site.post(f"back{number}").status == 202
    site.kill()
    faults.set()
    again = serve(place, preload=faults.preload)
    site.lost_nothing(place)
    assert again.problems() == []


def test_a_clock_that_jumps_forward_ends_nothing_early_and_removes_only_what_has_had_its_time(
    place: Place, faults: Faults
) -> None:
    site = serve(place, preload=faults.preload)
    assert site.post("before").status == 202
    assert site.ask("POST", "/long/during", seconds=1.5, timeout=60).status == 202
    later = site.ask("POST", "/later/dated", delay=3 * 86_400).body
    place.wait_for("started", ["during"])
    faults.set(clock=86_400 // 2)
    assert site.post("after").status == 202
    site.accepted += ["during"]
    site.lost_nothing(place)
    # Half a day of the day that succeeded jobs are kept; and the date is three days away.
    wait_until(lambda: place.states() == {"succeeded": 3, "queued": 1})
    assert site.ask("GET", f"/job/{later}").body["state"] == "queued"
    assert place.keys("cancelled") == {}
    assert site.problems() == []
