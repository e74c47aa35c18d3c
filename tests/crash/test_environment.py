"""A copy of production's file beside a staging app: no mail is sent twice.

What lives here: runners whose environment is not that of their file. What does not: the setting
itself (`tests/unit/test_settings.py`).
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing

from tests.crash.disk.serving import Site, serve
from tests.crash.harness import Place, wait_until


def production_with_a_backlog(place: Place) -> list[str]:
    """Jobs of production that wait, one that runs, and one that has a date; then it is killed."""
    worker = place.worker(environment="production", concurrency=1, sync_concurrency=1)
    worker.ask("enqueue", task="work", keys=["running"], args=[60])
    place.wait_for("started", ["running"])
    waiting = [f"waiting{number}" for number in range(5)]
    worker.ask("enqueue", task="work", keys=waiting, args=[0])
    worker.ask("enqueue", task="work", keys=["dated"], args=[0], options={"delay": 0.2})
    worker.kill()
    return ["running", *waiting, "dated"]


def content(place: Place) -> list[tuple[object, ...]]:
    return [
        *place.rows("SELECT * FROM jobs ORDER BY seq"),
        *place.rows("SELECT * FROM meta"),
        *place.rows("SELECT * FROM processes"),
        *place.rows("SELECT * FROM attempts"),
    ]


def is_paused(site: Site) -> None:
    (problem,) = site.problems()
    assert "belongs to the environment 'production'" in problem
    assert "await runner.adopt()" in problem


def test_a_staging_app_on_productions_file_runs_stores_and_changes_nothing(place: Place) -> None:
    production_with_a_backlog(place)
    before = content(place)
    started = place.keys("started")
    site = serve(place, environment="staging")
    is_paused(site)
    assert site.logged(place, "runner.paused")
    for number in range(3):
        assert site.post(f"staging{number}").status == 503
    site.signal(signal.SIGTERM)
    assert site.wait() in (0, -signal.SIGTERM)
    assert content(place) == before
    assert place.keys("started") == started
    assert place.process_files() != []


def test_production_goes_on_after_staging_has_looked_at_its_file(place: Place) -> None:
    keys = production_with_a_backlog(place)
    site = serve(place, environment="staging")
    is_paused(site)
    site.kill()
    worker = place.worker(environment="production")
    place.wait_for("started", keys[1:])
    wait_until(lambda: place.keys("started")["running"] == 2, "what had started runs again")
    worker.kill()


def test_one_call_adopts_and_a_paused_app_beside_it_goes_on_at_once(place: Place) -> None:
    keys = production_with_a_backlog(place)
    site = serve(place, environment="staging")
    is_paused(site)
    script = place.worker(run=False, environment="staging")
    script.ask("adopt")
    assert place.lines("file.adopted")[0]["environment"] == "staging"
    place.wait_for("ended", keys[1:])
    assert site.problems() == []
    assert site.post("after").status == 202
    site.lost_nothing(place)
    script.leave()
    # Now it is production that would be wrong here.
    other = place.worker(run=False, environment="production")
    (problem,) = other.ask("health")
    assert "belongs to the environment 'staging'" in problem
    other.leave()
    assert place.failures() == []


def test_an_environment_is_stored_at_first_use_and_none_is_not_compared(place: Place) -> None:
    for environment in (None, "production", None, "production"):
        worker = place.worker(environment=environment)
        key = f"k{len(place.effects())}"
        worker.ask("enqueue", task="work", keys=[key], args=[0])
        place.wait_for("ended", [key])
        assert worker.ask("health") == []
        worker.leave()
    with closing(sqlite3.connect(place.file)) as connection:
        stored = connection.execute("SELECT value FROM meta WHERE key = 'environment'").fetchall()
    assert stored == [("production",)]


def test_a_copy_of_the_whole_folder_starts_paused_while_production_runs(place: Place) -> None:
    production = serve(place, environment="production")
    assert production.post("production").status == 202
    production.ask("POST", "/later/later", delay=0.5)
    copy = place.folder.parent / "copy"
    shutil.copytree(place.folder, copy, ignore=shutil.ignore_patterns("*.fifo"))
    place.folder, folder = copy, place.folder
    place.file, file = copy / place.file.name, place.file
    staging = serve(place, environment="staging")
    is_paused(staging)
    place.folder, place.file = folder, file
    place.wait_for("ended", ["production", "later"])
    assert production.problems() == []
    assert set(place.keys("started").values()) == {1}
