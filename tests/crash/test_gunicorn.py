"""Real gunicorn with uvicorn's workers: preloaded, recycled, killed, and aborted for a timeout.

What lives here: what its ways of ending workers mean for jobs. What does not: plain uvicorn
(`test_siblings.py`, `test_shutdown.py`).
"""

from __future__ import annotations

import os
import signal
import sys
from urllib.parse import urlencode

import pytest

from tests.crash.harness import Place, Server, free_port, wait_until

pytest.importorskip("gunicorn", reason="gunicorn is not installed")


def gunicorn(place: Place, *arguments: str, **options: object) -> Server:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "tests.crash.app:app", "--bind"]
    command += [f"127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "--log-level", "error"]
    started = place._start([*command, *arguments], place.environment(options))
    server = Server(started, port)
    place._stack.callback(server.end)
    server.ready()
    return server


def end(place: Place, server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.is_sound()


def crashes(place: Place) -> int:
    ((total,),) = place.rows("SELECT sum(crashes) FROM jobs")
    return int(total)


def test_a_preloaded_app_runs_in_every_worker_and_a_killed_one_loses_nothing(place: Place) -> None:
    server = gunicorn(place, "--preload", "--workers", "2")
    wait_until(lambda: len(place.process_files()) == 2, "two processes")
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        server.post(f"/tasks/{key}", seconds=0.5)
    wait_until(lambda: place.effects("started"), "some run")
    victim = place.effects("started")[0].pid
    assert victim != server.pid  # the master has loaded the app, and runs nothing
    os.kill(victim, signal.SIGKILL)
    place.wait_for("ended", keys)
    wait_until(lambda: place.states() == {"succeeded": 30})
    wait_until(lambda: len(place.process_files()) == 2, "another one is there")
    end(place, server)


def test_workers_that_are_replaced_after_some_requests_charge_nobody(place: Place) -> None:
    server = gunicorn(place, "--workers", "2", "--max-requests", "3", shutdown_grace=1)
    keys: list[str] = []

    def replaced() -> bool:
        """Whether a third process has run jobs; one more request in any case."""
        keys.append(f"k{len(keys)}")
        post(server, f"/tasks/{keys[-1]}", seconds=0.05 if len(keys) % 9 else 1.2)
        return len({effect.pid for effect in place.effects("started")}) > 2

    wait_until(replaced, "workers are replaced", 60)
    place.wait_for("ended", keys)
    wait_until(lambda: place.states() == {"succeeded": len(keys)})
    assert crashes(place) == 0
    assert place.rows("SELECT DISTINCT outcome FROM attempts") in ([], [("interrupted",)])
    end(place, server)


def post(server: Server, path: str, **query: object) -> None:
    """Post, again if the worker that took the connection ends before it looks at it."""

    def stored() -> bool:
        try:
            server.post(path, **query)
        except OSError:
            return False
        return True

    wait_until(stored, f"POST {path}?{urlencode(query)}")


def test_a_worker_that_is_aborted_for_its_timeout_tells_where_it_was(place: Place) -> None:
    server = gunicorn(place, "--workers", "1", "--timeout", "2")
    server.post("/block/b", seconds=120, on_crash="hold")
    wait_until(lambda: place.states() == {"held": 1}, "gunicorn aborts it", 40)
    ((message, stack),) = place.rows("SELECT error_message, traceback FROM attempts")
    assert "died while it ran: " in message
    assert ("SIGABRT" in message) or ("Aborted" in message)
    assert "Current thread" in stack
    assert "in block" in stack
    assert place.keys("started") == {"b": 1}
    wait_until(lambda: place.lines("loop.blocked"), "and it was named before")
    end(place, server)
