"""Servers on disks that fail, and clients that keep what they were told.

What lives here: small disks, the library that makes system calls fail, and the ledger of answers.
What does not: what must hold. Called by the disk tests.
"""

from __future__ import annotations

import http.client
import json
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests.crash.harness import LIMIT, Child, Place, free_port, wait_until
from tests.support.needs import need_command

__all__ = ["Answer", "Faults", "Site", "begin", "compile_faults", "serve", "small_disk"]

_SOURCE = Path(__file__).with_name("faults.c")
_CONTROL = struct.Struct("iiiiq")


class Answer(NamedTuple):
    """What a client was told."""

    status: int
    retry_after: str | None
    body: Any


@dataclass(slots=True)
class Site(Child):
    """A real uvicorn with `tests.crash.disk.app`, and the ledger of what it told its clients."""

    port: int
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **query: object) -> Answer:
        url = f"{path}?{urlencode(query)}" if query else path
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)) as client:
            client.request(method, url)
            response = client.getresponse()
            text = response.read()
            body = json.loads(text) if text[:1] in b'{["0123456789tfn' and text else text
            return Answer(response.status, response.headers["retry-after"], body)

    def post(self, key: str, **query: object) -> Answer:
        """Add a job; anything but an acceptance must be a 503 that says when to come again."""
        answer = self.ask("POST", f"/jobs/{key}", **query)
        if answer.status == 202:
            self.accepted.append(key)
        else:
            assert answer.status == 503, answer
            assert answer.retry_after is not None
            self.refused.append(key)
        return answer

    def is_up(self) -> bool:
        if self.popen.poll() is not None:
            raise AssertionError(f"the server ended: {self.popen.returncode}")
        try:
            return self.ask("GET", "/ready").status == 200
        except OSError:
            return False

    def problems(self) -> list[str]:
        found: list[str] = self.ask("GET", "/health").body["problems"]
        return found

    def takes_requests(self) -> bool:
        """Whether its readiness says that clients should come here."""
        return bool(self.ask("GET", "/health").body["ready"])

    def comes_back(self, prefix: str) -> float:
        """Wait until health is well by itself, and a job is accepted; return the seconds."""
        taken = wait_until(lambda: not self.problems(), f"well again: {self.problems()}")
        assert self.takes_requests()
        assert self.post(f"{prefix}.back").status == 202
        return taken

    def lost_nothing(self, place: Place) -> None:
        """What was accepted has run once, what was refused has not."""
        place.wait_for("ended", self.accepted)
        ended = place.keys("ended")
        assert {key: ended[key] for key in self.accepted} == dict.fromkeys(self.accepted, 1)
        assert not set(self.refused) & set(place.keys("started"))

    def logged(self, place: Place, event: str) -> list[dict[str, Any]]:
        return place.lines(event, self.pid)


def serve(place: Place, *, preload: dict[str, str] | None = None, **options: Any) -> Site:
    """Start a server and wait until it answers."""
    site = begin(place, preload, options)
    try:
        wait_until(site.is_up, "the server answers")
    except AssertionError as error:
        raise AssertionError(f"{error}: {place.failures()[-9:]}") from error
    return site


def begin(place: Place, preload: dict[str, str] | None, options: dict[str, Any]) -> Site:
    """Start a server that may be unable to start."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.crash.disk.app:app", "--port", str(port)]
    command += ["--log-level", "error"]
    environment = place.environment(options) | (preload or {})
    site = Site(place._start(command, environment), port)
    place.finally_do(site.end)
    return site


def small_disk(place: Place, size: str) -> Callable[..., None]:
    """Put a disk of this size under the place's folder; return what mounts it anew with options."""

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place.folder)]
        subprocess.run(command, check=True, capture_output=True)

    need_command("mount", "a small disk is mounted")
    try:
        mount(f"size={size}")
    except subprocess.CalledProcessError as error:
        reason = f"no disk can be mounted here: {error.stderr.decode().strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    place.finally_do(lambda: subprocess.run(["umount", "-l", str(place.folder)], check=True))
    return lambda options: mount(f"remount,{options}")


class Faults:
    """What goes wrong in the programs that are started with `preload`."""

    def __init__(self, place: Place, library: Path) -> None:
        path = place.folder.parent / "faults"
        path.write_bytes(bytes(mmap.PAGESIZE))
        self._file = path.open("r+b")
        self._page = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)
        place.finally_do(self._close)
        self.preload = {
            "LD_PRELOAD": str(library),
            "FAULT_CONTROL": str(path),
            "FAULT_FOLDER": str(place.folder),
        }

    def _close(self) -> None:
        self._page.close()
        self._file.close()

    def set(
        self, *, error: int = 0, sync_error: int = 0, sync_delay: float = 0.0, clock: int = 0
    ) -> None:
        """From now on this goes wrong, and nothing else."""
        _CONTROL.pack_into(self._page, 0, error, sync_error, int(sync_delay * 1000), 0, clock)


def compile_faults(folder: Path) -> Path:
    """Compile the library."""
    need_command("gcc", "it compiles the library that makes system calls fail")
    library = folder / "faults.so"
    command = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*command, str(_SOURCE), "-ldl"], check=True)
    return library
