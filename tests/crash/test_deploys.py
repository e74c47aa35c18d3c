"""Deploys: SIGTERM with responses that never end, and one process after another without a gap.

What lives here: real servers that are told to end while clients stay. What does not: releases that
differ (`test_releases.py`). The judges are the clients and the jobs' own effects.
"""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from tests.crash.harness import LIMIT, Place, Server, now, wait_until

GRACE = 1.0
MARGIN = 2.0  # promised: seconds beyond the grace until jobs are settled, and the server ends
APP = "tests.crash.streaming_app:app"
KINDS = ("work", "watchful", "work_sync")
LENGTHS = {"short": 0.01, "medium": 2.0, "long": 60.0}


class Listener:
    """A client that reads a response until it ends."""

    def __init__(self, server: Server, path: str) -> None:
        self.ended_well: bool | None = None
        self._client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=4 * LIMIT)
        self._client.request("GET", path)
        self._response = self._client.getresponse()
        assert self._response.readline() == b"data: 1\n"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self._response.read()
            self.ended_well = True
        except (http.client.HTTPException, OSError):
            self.ended_well = False

    def close(self) -> None:
        self._thread.join(LIMIT)
        self._client.close()


class Load:
    """A client that asks for one short job after another, of whichever server it is told."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.accepted: list[tuple[str, float]] = []
        self.errors: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    @contextmanager
    def running(self) -> Iterator[Load]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join(LIMIT)

    def _ask(self) -> None:
        number = 0
        while not self._over.wait(0.01):
            number += 1
            key = f"load{number}"
            try:
                self.server.post(f"/tasks/{key}", seconds=0.01)
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.errors.append(repr(error))
            else:
                self.accepted.append((key, now()))

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.accepted) + count
        wait_until(lambda: len(self.accepted) >= wanted, f"{count} more are accepted")

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.accepted]


def start_jobs(place: Place, server: Server) -> None:
    """Have jobs of each kind and length, more than can run at once."""
    for length in ("long", "medium", "short"):
        for kind in KINDS:
            server.post(f"/run/{kind}/{kind}.{length}", seconds=LENGTHS[length])
    place.wait_for("started", [f"{kind}.long" for kind in KINDS])


def settled(place: Place, *, threads: int) -> bool:
    """Whether no job is owned but those whose thread cannot be stopped."""
    ((owned,),) = place.rows("SELECT count(*) FROM jobs WHERE owner IS NOT NULL")
    return bool(owned == threads)


def is_uncharged(place: Place) -> bool:
    return place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]


OPTIONS: dict[str, Any] = {"shutdown_grace": GRACE, "concurrency": 8, "sync_concurrency": 8}


def test_an_event_stream_does_not_keep_a_server_that_is_told_to_end(place: Place) -> None:
    server = place.server(app=APP, **OPTIONS)
    server.ready()
    listeners = [Listener(server, "/events") for _ in range(3)]
    start_jobs(place, server)
    with Load(server).running() as load:
        load.wait_for_more(20)
        begun = now()
        server.signal(signal.SIGTERM)
        server.wait()
        took = now() - begun
    print(f"\nended {took:.2f} s after SIGTERM, grace {GRACE} s; {len(load.accepted)} accepted")
    assert took < GRACE + MARGIN
    for listener in listeners:
        listener.close()
    assert [listener.ended_well for listener in listeners] == [True] * 3
    assert place.of("work.long") == ["started", "cancelled"]
    assert place.of("watchful.long") == ["started", "told"]
    assert is_uncharged(place)
    server = place.server(app=APP, **OPTIONS)
    server.ready()
    others = [f"{kind}.{length}" for kind in KINDS for length in ("short", "medium")]
    place.wait_for("ended", others + load.keys)
    assert {place.keys("ended")[key] for key in others + load.keys} == {1}
    wait_until(lambda: all(place.keys("started")[f"{kind}.long"] == 2 for kind in KINDS))
    assert place.is_sound()
    assert place.failures() == []


def test_what_only_the_server_could_end_does_not_keep_the_jobs(place: Place) -> None:
    """The state is settled while the server still waits, and SIGKILL changes nothing of it."""
    server = place.server(app=APP, **OPTIONS)
    server.ready()
    sibling = place.worker(**OPTIONS)
    listener = Listener(server, "/rows")
    for kind in KINDS:
        server.post(f"/run/{kind}/{kind}.long", seconds=60)
    first = {f"{kind}.long" for kind in KINDS}
    place.wait_for("started", list(first))
    mine = {effect.key for effect in place.effects("started") if effect.pid == server.pid}
    assert mine == first
    begun = now()
    server.signal(signal.SIGTERM)
    stoppable = ["work.long", "watchful.long"]
    wait_until(lambda: all(place.keys("started")[key] == 2 for key in stoppable), "a sibling has")
    took = now() - begun
    print(f"\nstarted elsewhere {took:.2f} s after SIGTERM, grace {GRACE} s")
    assert took < GRACE + MARGIN
    assert place.keys("started")["work_sync.long"] == 1  # its thread still runs
    assert server.popen.poll() is None
    assert listener.ended_well is None
    server.kill()
    listener.close()
    wait_until(lambda: place.keys("started")["work_sync.long"] == 2, "it is refunded")
    again = {e.pid for e in place.effects("started")[len(first) :]}
    assert again == {sibling.pid}
    assert is_uncharged(place)
    outcomes = dict(place.rows("SELECT outcome, count(*) FROM attempts GROUP BY outcome"))
    assert outcomes == {"interrupted": 3}
    assert place.is_sound()
    assert place.failures() == []


def test_with_nobody_else_what_was_settled_waits_for_the_next_start(place: Place) -> None:
    server = place.server(app=APP, **OPTIONS)
    server.ready()
    listener = Listener(server, "/rows")
    for kind in KINDS:
        server.post(f"/run/{kind}/{kind}.long", seconds=60)
    place.wait_for("started", [f"{kind}.long" for kind in KINDS])
    begun = now()
    server.signal(signal.SIGTERM)
    wait_until(lambda: settled(place, threads=1), "only the thread's job is owned")
    took = now() - begun
    print(f"\nsettled {took:.2f} s after SIGTERM, grace {GRACE} s")
    assert took < GRACE + MARGIN
    server.kill()
    listener.close()
    server = place.server(app=APP, **OPTIONS)
    server.ready()
    wait_until(lambda: all(place.keys("started")[f"{kind}.long"] == 2 for kind in KINDS))
    assert is_uncharged(place)


def test_the_server_s_own_timeout_ends_what_is_open(place: Place) -> None:
    server = place.server("--timeout-graceful-shutdown", "1", app=APP, **OPTIONS)
    server.ready()
    listener = Listener(server, "/rows")
    server.post("/run/work/work.long", seconds=60)
    place.wait_for("started", ["work.long"])
    begun = now()
    server.signal(signal.SIGTERM)
    server.wait()
    assert now() - begun < 1 + GRACE + MARGIN
    listener.close()
    assert place.of("work.long") == ["started", "cancelled"]
    assert place.states() == {"queued": 1}


def test_one_server_after_another_leaves_no_gap(place: Place) -> None:
    """A rolling restart: the next one is ready before the one before is told to end."""
    options = {**OPTIONS, "concurrency": 4}
    before = server = place.server(app=APP, **options)
    server.ready()
    with Load(server).running() as load:
        for _ in range(2):
            load.wait_for_more(30)
            server.post(f"/run/work/work.{server.port}", seconds=60)
            place.wait_for("started", [f"work.{server.port}"])
            before, server = server, place.server(app=APP, **options)
            server.ready()
            load.server = server
            time.sleep(0.1)  # a request that is on its way to the old one
            before.signal(signal.SIGTERM)
            assert before.wait() in (0, -signal.SIGTERM)
            place.wait_for("started", [f"work.{before.port}"])
        load.wait_for_more(30)
    assert load.errors == []
    place.wait_for("ended", load.keys)
    assert {place.keys("ended")[key] for key in load.keys} == {1}
    times = [at for _, at in load.accepted]
    ends = sorted(effect.at for effect in place.effects("ended") if effect.key in set(load.keys))
    gaps = [max(b - a for a, b in pairwise(at)) for at in (times, ends)]
    print(f"\n{len(times)} accepted; longest gap {gaps[0]:.2f} s, between ends {gaps[1]:.2f} s")
    assert max(gaps) < GRACE + MARGIN
    wait_until(lambda: place.keys("started")[f"work.{before.port}"] == 2, "the next one has it")
    assert is_uncharged(place)
    assert place.failures() == []
