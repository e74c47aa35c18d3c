"""A mixed load on a server whose processes are killed at random, and the judgement of it.

What lives here: clients with a log of what was acknowledged, kills, and the judge: the clients' log
and the jobs' own effects. What does not: how often and of how many. Used by `test_kills.py`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from tests.crash.harness import LIMIT, Effect, Place, Server, is_free, now, wait_until

__all__ = ["Clients", "Death", "finish", "gaps", "judge", "kill", "kill_all", "who_answers"]

CLIENTS = 6
QUIET = 2.0  # seconds; a job that is due does not wait longer, not even a suspect after a death
UNSETTLED = 1.0  # seconds from a job's end to its outcome on disk; measured up to 0.03


class Way(NamedTuple):
    """A way in.

    Args:
        path: What is posted to.
        query: With what.
        done: The word that its job says in the end: "ended" or "failed"; "never" for one that was
            cancelled before it could start, "any" for one that was cancelled while it ran.
    """

    path: str
    query: dict[str, Any]
    done: str = "ended"


# Every way in, with jobs short and less short, async and sync, alone and in a row.
WAYS = [
    Way("/tasks/", {"seconds": 0.005}),
    Way("/tasks/", {"seconds": 0.05, "sync": True}),
    Way("/tasks/", {"seconds": 0.01, "followers": 2}),
    Way("/plain/", {"seconds": 0.02}),
    Way("/enqueue/", {"seconds": 0.02}),
    Way("/enqueue/", {"seconds": 0.03, "sync": True}),
    Way("/threads/", {"seconds": 0.02}),
    Way("/options/", {"task": "work", "delay": 0.3}),
    Way("/options/", {"task": "work_sync", "priority": 5}),
    Way("/options/", {"task": "fail_twice"}),
    Way("/options/", {"task": "snooze_once"}),
    Way("/options/", {"task": "fail"}, "failed"),
    Way("/cancelled/", {"delay": 1.0}, "never"),
    Way("/stopped/", {"seconds": 0.1}, "any"),
    Way("/tasks/", {"seconds": 0.0}),
]


class Death(NamedTuple):
    """Between which two moments which process was killed; pid 0 is all of them."""

    pid: int
    begun: float
    done: float

    def ends(self, effect: Effect, before: float) -> bool:
        """Whether it came to the process of this effect after it, and before then."""
        return self.pid in (0, effect.pid) and effect.at < self.done and self.begun < before


@dataclass
class Clients:
    """Threads that post, and their log: which keys were acknowledged, and which were not.

    Args:
        port: Of the server.
        pause: Seconds that each client rests between two posts.
    """

    port: int
    pause: float = 0.0
    acknowledged: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._post_all) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LIMIT + 10)

    def _post_all(self) -> None:
        while not self._stop.wait(self.pause):
            number = next(self._numbers)
            way = WAYS[number % len(WAYS)]
            self._post(f"k{number}", way)

    def _post(self, key: str, way: Way) -> None:
        followers = range(1, way.query.get("followers", 0) + 1)
        keys = [key, *(f"{key}.{follower}" for follower in followers)]
        server = Server(None, self.port)  # type: ignore[arg-type]  # only asked, never ended
        try:
            answer = server.post(f"{way.path}{key}", **way.query)
        except ConnectionRefusedError:
            self._stop.wait(0.02)
        except (OSError, http.client.HTTPException):
            self.unknown += keys
        except AssertionError as error:
            # On a slow machine a commit may take too long, and is taken back; nothing else is well.
            if error.args[0][0] == 503:
                self.unknown += keys
            else:
                self.refused.append(f"{way.path}{key}: {error}")
        else:
            # A stall may have let it start before it was cancelled; the answer says so.
            done = "any" if way.done == "never" and answer != "CANCELLED" else way.done
            self.acknowledged |= dict.fromkeys(keys, done)


def gaps(rng: random.Random, mean: float) -> Iterator[float]:
    """Seconds between kills: at random, from 0.05 to 1."""
    while True:
        seconds = 0.05 + rng.expovariate(1 / mean)
        if seconds <= 1:
            yield seconds


def who_answers(server: Server) -> int:
    while True:
        with suppress(OSError, http.client.HTTPException):
            return int(server.get("/ready"))


def finish(place: Place, server: Server, processes: int) -> None:
    """The kills are over: let the server do what is left, and end it as a deploy does.

    When nothing has happened for two seconds, there must be nothing left to happen.
    """
    server.ready()
    _wait_for_quiet(place)
    counts = server.get("/counts")
    assert counts["queued"] + counts["running"] == 0, f"stuck after {QUIET} s of quiet: {counts}"
    # One that is only just starting would be ended before it can leave in good order.
    wait_until(lambda: server.get("/siblings") == processes - 1, "all processes are there", 60)
    server.signal(signal.SIGTERM)
    assert server.wait() in (0, -15)
    assert place.is_sound()
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.failures() == []


def _wait_for_quiet(place: Place) -> None:
    size, since, begun = -1, now(), now()
    while now() - since < QUIET:
        assert now() - begun < 120, "it does not come to rest"
        if (seen := place.log.stat().st_size) != size:
            size, since = seen, now()
        time.sleep(0.01)


@dataclass
class _Run:
    """One attempt, as it told of itself."""

    start: Effect
    close: Effect | None = None


def judge(place: Place, clients: Clients, deaths: list[Death]) -> dict[str, int]:
    """Compare what was promised with what was done; return the figures."""
    assert clients.refused == []
    runs = _runs(place)
    known = clients.acknowledged.keys() | set(clients.unknown)
    assert runs.keys() <= known, f"never asked for: {runs.keys() - known}"
    held = _held(place)
    lost = [
        key
        for key, done in clients.acknowledged.items()
        if not _is_done(done, runs.get(key, [])) and key not in held
    ]
    assert not lost, f"{len(lost)} lost, such as {lost[0]}: {runs.get(lost[0])}"
    for key in held:
        # By design, and only so: it ran at four deaths, as what kills its process does. One may
        # have come after the note that it starts, and before its first line.
        at_deaths = sum(_killed(run, deaths) for run in runs.get(key, []))
        assert at_deaths >= 3, f"{key} is held, and ran at {at_deaths} deaths only"
    for key, of_key in runs.items():
        _judge_repeats(key, of_key, deaths)
    _judge_order(runs)
    states = place.states()
    assert not states.keys() & {"queued", "running", "expired"}, states
    ended = [[run for run in of_key if _said(run, "ended")] for of_key in runs.values()]
    figures = {
        "kills": len(deaths),
        "acknowledged": len(clients.acknowledged),
        "unknown": len(clients.unknown),
        "lost": len(lost),
        "cut off and started again": sum(
            any(_killed(run, deaths) for run in of_key) and len(of_key) > 1
            for of_key in runs.values()
        ),
        "ran to the end twice": sum(len(of_key) > 1 for of_key in ended),
        "held": len(held),
    }
    print(", ".join(f"{count} {name}" for name, count in figures.items()))
    return figures


def _runs(place: Place) -> dict[str, list[_Run]]:
    runs: dict[str, list[_Run]] = {}
    for effect in place.effects():
        of_key = runs.setdefault(effect.key, [])
        if effect.word == "started":
            of_key.append(_Run(effect))
        else:
            # The attempt of this process that is still open.
            open_ones = [run for run in of_key if run.start.pid == effect.pid and not run.close]
            assert open_ones, f"{effect} has no start"
            open_ones[-1].close = effect
    return runs


def _is_done(done: str, runs: list[_Run]) -> bool:
    if done == "never":
        return not runs
    return done == "any" or any(_said(run, done) for run in runs)


def _said(run: _Run, word: str) -> bool:
    return run.close is not None and run.close.word == word


def _killed(run: _Run, deaths: list[Death]) -> bool:
    """Whether its process was killed before its outcome can be known to be on disk."""
    until = float("inf") if run.close is None else run.close.at + UNSETTLED
    return any(death.ends(run.start, until) for death in deaths)


def _judge_repeats(key: str, runs: list[_Run], deaths: list[Death]) -> None:
    """An attempt follows another only after a failure, a snooze, or a kill while it was open."""
    for run, following in itertools.pairwise(runs):
        if run.close is not None and run.close.word in ("failed", "snoozed"):
            assert following.start.at > run.close.at, f"{key} ran beside itself"
            continue
        before = following.start.at
        if run.close is not None:
            before = min(before, run.close.at + UNSETTLED)
        came = any(death.ends(run.start, before) for death in deaths)
        assert came, f"{key} was not killed and started again: {run}, then {following}"


def _judge_order(runs: dict[str, list[_Run]]) -> None:
    for key, of_key in runs.items():
        before, _, number = key.partition(".")
        if number:
            leader = runs[before if number == "1" else f"{before}.{int(number) - 1}"]
            ends = [run.close.at for run in leader if run.close is not None]
            assert ends, f"{key} started and its leader never ended"
            assert of_key[0].start.at > ends[0], f"{key} overtook its leader"


def _held(place: Place) -> set[str]:
    rows = place.rows("SELECT args, reason FROM jobs WHERE state = 'held'")
    for args, reason in rows:
        print(f"held: {args} {reason}")
    return {json.loads(args)[1][0] for args, _ in rows}


def kill(pid: int) -> Death:
    begun = now()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.005)  # on another processor, it may get some way yet
    return Death(pid, begun, now())


def kill_all(server: Server) -> Death:
    begun = now()
    server.end()
    # Its workers end a moment later, and with them the socket that they listen on.
    wait_until(lambda: is_free(server.port), "the port is free")
    return Death(0, begun, now())
