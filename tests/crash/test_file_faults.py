"""A file that is deleted, replaced, cut, damaged, or has a row that somebody spoiled.

What lives here: what people and disks do to the file under a running server. What does not: disks
that refuse (`test_disk.py`).
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from embedded_tasks.store import has_wal_reset_bug
from tests.crash.disk.serving import Site, begin, serve
from tests.crash.harness import LIMIT, Place, wait_until


def refused(site: Site, prefix: str, words: str) -> None:
    for number in range(3):
        assert site.post(f"{prefix}{number}").status == 503
    assert any(words in problem for problem in site.problems()), site.problems()


def checkpoint(place: Place) -> None:
    """Put everything into the file itself."""
    with closing(sqlite3.connect(place.file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_file_that_is_moved_away_refuses_until_it_is_back(place: Place, suffix: str) -> None:
    site = serve(place)
    assert site.post("before").status == 202
    file = Path(f"{place.file}{suffix}")
    away = file.rename(file.with_name("away"))
    refused(site, "away", "was deleted or moved away")
    assert not file.exists()
    away.rename(file)
    site.comes_back("away")
    site.lost_nothing(place)
    site.kill()
    assert place.is_sound()


def test_a_deleted_file_gives_nobody_a_promise_and_the_next_start_begins_anew(
    place: Place,
) -> None:
    site = serve(place)
    assert site.post("before").status == 202
    place.wait_for("ended", ["before"])
    place.file.unlink()
    refused(site, "deleted", "was deleted")
    for name in ("-wal", "-shm"):
        Path(f"{place.file}{name}").unlink()
    site.signal(signal.SIGTERM)
    site.wait()
    again = serve(place)
    assert again.post("anew").status == 202
    again.lost_nothing(place)
    assert not set(site.refused) & set(place.keys("started"))


def test_a_file_that_is_put_in_its_place_is_not_touched(place: Place) -> None:
    site = serve(place)
    assert site.post("before").status == 202
    place.wait_for("ended", ["before"])
    wait_until(lambda: place.states() == {"succeeded": 1})
    other = place.folder.parent / "backup.db"
    with (
        closing(sqlite3.connect(place.file)) as source,
        closing(sqlite3.connect(other)) as target,
    ):
        source.backup(target)
    content = other.read_bytes()
    other.replace(place.file)
    refused(site, "replaced", "was replaced by another file")
    assert place.file.read_bytes() == content
    site.signal(signal.SIGTERM)
    site.wait()
    again = serve(place)
    assert again.post("again").status == 202
    again.lost_nothing(place)
    wait_until(lambda: place.states() == {"succeeded": 2}, "the outcomes are stored")
    again.kill()
    assert place.is_sound()


def filled(place: Place) -> Site:
    """A server whose file holds some pages; all of it is in the file itself."""
    site = serve(place)
    for number in range(60):
        assert site.post(f"k{number}", size=20_000).status == 202
    site.lost_nothing(place)
    wait_until(lambda: place.states() == {"succeeded": 60})
    checkpoint(place)
    return site


def test_a_file_that_is_cut_short_is_noticed_before_the_next_promise(place: Place) -> None:
    site = filled(place)
    assert site.post("last").status == 202
    site.lost_nothing(place)
    checkpoint(place)
    size = place.file.stat().st_size
    with place.file.open("r+b") as file:
        file.truncate(size // 2)
    refused(site, "cut", ".recover")
    site.kill()
    # The next start refuses it too, in words.
    content = place.file.read_bytes()
    again = begin(place, None, {})
    assert again.wait(LIMIT) != 0
    assert any("damaged" in str(line) or "cut" in str(line) for line in place.failures())
    assert place.file.read_bytes() == content


def test_a_damaged_page_stops_the_promises_when_it_is_met_and_says_what_to_do(
    place: Place,
) -> None:
    site = filled(place)
    pages = place.file.stat().st_size // 4096
    with place.file.open("r+b") as file:
        for page in range(20, pages):
            file.seek(page * 4096)
            file.write(b"\xff" * 512)
    # A restart has no page in memory; it may meet the damage at once or at its first write.
    site.kill()
    again = begin(place, None, {})
    wait_until(lambda: again.popen.poll() is not None or site_is_up(again), "it has decided")
    if again.popen.poll() is None:
        for number in range(3):
            again.post(f"damaged{number}", size=20_000)
        assert again.accepted == []
        (problem,) = again.problems()
        assert "is damaged" in problem
        assert ".recover" in problem
    else:
        assert any("damaged" in str(line) for line in place.failures())


def site_is_up(site: Site) -> bool:
    try:
        return site.is_up()
    except AssertionError:
        return False


SPOILED = {
    "args are no JSON": "args = 'spoiled'",
    "args are not ours": "args = '{\"a\": 1}'",
    "args are no text": "args = CAST(x'ff00fe' AS TEXT)",
    "args are deep": "args = printf('%.*c', 100000, '[')",
    "options are no JSON": "options = 'spoiled'",
    "options are a list": "options = '[1]'",
    "options are unknown": 'options = \'{"max_attempts": "many"}\'',
    "options are no text": "options = CAST(x'ff' AS TEXT)",
    "tags are no JSON": "tags = 'spoiled'",
    "a request id that is no text": "request_id = CAST(x'ff' AS TEXT)",
    "an id that is none": "id = 'spoiled'",
}
STILL_RUN = {"tags are no JSON", "a request id that is no text", "an id that is none"}


def test_a_spoiled_row_costs_only_itself(place: Place) -> None:
    """Jobs wait, somebody spoils some of their rows by hand, then a worker comes."""
    asker = place.worker(run=False)
    names = list(SPOILED)
    keys = [f"k{number}" for number in range(len(names) + 5)]
    ids = asker.ask("enqueue", task="work", keys=keys, args=[0])
    with closing(sqlite3.connect(place.file, isolation_level=None)) as connection:
        for id, name in zip(ids, names, strict=False):
            changed = connection.execute(f"UPDATE jobs SET {SPOILED[name]} WHERE id = ?", (id,))
            assert changed.rowcount == 1
    worker = place.worker()
    healthy = keys[len(names) :]
    spared = [key for key, name in zip(keys, names, strict=False) if name in STILL_RUN]
    place.wait_for("ended", healthy + spared)
    wait_until(
        lambda: (
            worker.ask("counts")
            == {
                "succeeded": len(healthy) + len(spared),
                "held": len(names) - len(spared),
            }
        ),
        "all have ended",
    )
    for id, name in zip(ids, names, strict=False):
        if name in STILL_RUN:
            continue
        job = worker.ask("job", id=id)
        assert job["state"] == "held", (name, job)
        assert job["reason"], name
    # A further job, and a list of all of them, are no harder than before.
    worker.ask("enqueue", task="work", keys=["after"], args=[0])
    place.wait_for("ended", ["after"])
    worker.leave()
    asker.leave()
    assert place.failures() == []


def test_four_processes_at_full_speed_lose_nothing_whatever_their_sqlite(place: Place) -> None:
    at_full_speed(place, 300)


@pytest.mark.slow
def test_four_processes_at_full_speed_lose_nothing_for_long(place: Place) -> None:
    at_full_speed(place, 10_000)


def at_full_speed(place: Place, each: int) -> None:
    # All is enqueued at once, and the last of it waits for all the rest.
    workers = place.workers(4, concurrency=5, store_wait=60 + each / 20)
    tokens = []
    for turn in range(5):
        for number, worker in enumerate(workers):
            keys = [f"w{number}.{turn}.{n}" for n in range(each)]
            tokens.append((worker, worker.begin("enqueue", task="work", keys=keys, args=[0])))
    for worker, token in tokens:
        worker.reply(token, 60 + each / 20)
    wanted = 4 * 5 * each
    wait_until(lambda: len(place.keys("ended")) == wanted, "all have ended", 60 + each / 20)
    wait_until(lambda: workers[0].ask("counts")["succeeded"] >= min(wanted, 10_000))
    for worker in workers:
        worker.leave()
    assert place.is_sound()
    assert set(place.keys("ended").values()) == {1}
    assert place.states() == {"succeeded": wanted}
    affected = has_wal_reset_bug(sqlite3.sqlite_version_info)
    assert bool(place.lines("store.sqlite_affected")) is affected
    assert place.failures() == []


def test_a_copy_of_the_file_is_sound_while_it_is_written(place: Place, tmp_path: Path) -> None:
    """SQLite's own backup, as the docs say it, beside a server under load."""
    site = serve(place)
    assert site.post("before").status == 202
    target = tmp_path / "copy.db"
    with (
        closing(sqlite3.connect(place.file)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    shutil.copy(target, tmp_path / "kept.db")
    site.lost_nothing(place)
