"""Those who watch: open event streams, and pages that read themselves anew as browsers do.

What lives here: bare sockets that cost the machine little, in a process of its own. What does not:
what watching costs the server (`streams`). Started by `streams.py`.
"""

from __future__ import annotations

import argparse
import html
import json
import random
import re
import selectors
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.request import urlopen

__all__: list[str] = []

# As the pages' own script has it.
_WITHIN = 0.15
_PAUSE = 1.5
_TIMES_TOOK = 20.0
_PAGES = ("/admin/", "/admin/jobs")
_READ = 1 << 20


class Stream:
    """An event stream, of which is seen that something came.

    Args:
        port: Where the server listens.
        path: The stream's.
        told: Called when something has happened, with the seconds in which to look.
    """

    def __init__(self, port: int, path: str, told: Callable[[float], None]) -> None:
        self._told = told
        self.opened = False
        self.ended = False
        self.bytes = 0
        self.sends = 0
        self.socket = _ask(port, path, "text/event-stream")

    def read(self) -> None:
        """Take what has come."""
        data = self.socket.recv(_READ)
        self.ended = not data
        self.bytes += len(data)
        self.sends += 1
        if self.opened and b"data: " in data:
            said = re.search(rb'"within":([0-9.]+)', data)
            self._told(float(said[1]) if said else _WITHIN)
        self.opened = self.opened or b"event: open" in data


class Page:
    """A page that is open in a browser: it reads itself anew when its stream tells of something.

    Args:
        port: Where the server listens.
        path: The page's.
    """

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        with urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            found = re.search(r'hx-sse:connect="([^"]+)"', answer.read().decode())
        assert found is not None
        self.stream = Stream(port, html.unescape(found[1]), self._soon)
        self.socket: socket.socket | None = None
        self.times: list[float] = []
        self.due = float("inf")
        self._missed = False
        self._begun = 0.0
        self._last = time.monotonic()
        self._took = 0.0
        self._received = b""

    def _soon(self, within: float = _WITHIN) -> None:
        if self.socket is not None:
            self._missed = True
        elif self.due == float("inf"):
            now = time.monotonic()
            rest = max(_PAUSE, _TIMES_TOOK * self._took) - (now - self._last)
            self.due = now + max(rest, 0.0) + within * random.random()

    def ask(self) -> None:
        """Send the request; a browser's connection would be kept, this one costs about as much."""
        self.due = float("inf")
        self._missed = False
        self._begun = time.monotonic()
        self._received = b""
        # A server that is about to end answers nobody.
        with suppress(ConnectionError):
            self.socket = _ask(self._port, self._path, "text/html", "HX-Request: true\r\n")

    def read(self) -> bool:
        """Take what has come; return whether that was all."""
        assert self.socket is not None
        data = b""
        with suppress(ConnectionError):
            data = self.socket.recv(_READ)
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head)
        whole = size is not None and len(body) >= int(size[1])
        if data and not whole:
            return False
        self.socket.close()
        self.socket = None
        if not whole:
            return True
        assert head.startswith(b"HTTP/1.1 200"), head
        self._last = time.monotonic()
        self._took = self._last - self._begun
        self.times.append(self._took * 1000)
        if self._missed:
            self._soon()
        return True


def _ask(port: int, path: str, accepts: str, more: str = "") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accepts}\r\n{more}\r\n".encode()
    )
    return made


class Watchers:
    """All of them, until somebody writes a line.

    Args:
        port: Where the server listens.
        pages: How many pages.
        streams: How many bare streams.
    """

    def __init__(self, port: int, pages: int, streams: int) -> None:
        self._pages = [Page(port, _PAGES[number % len(_PAGES)]) for number in range(pages)]
        self._streams = [page.stream for page in self._pages]
        self._streams += [
            Stream(port, "/admin/api/v1/events", lambda _: None) for _ in range(streams)
        ]
        self._selector = selectors.DefaultSelector()
        for stream in self._streams:
            self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def run(self) -> None:
        """Watch; say when all streams are open, and at the end what came."""
        said = False
        while True:
            due = min((page.due for page in self._pages), default=float("inf"))
            wait = None if due == float("inf") else max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(wait):
                if key.fileobj is sys.stdin:
                    return
                self._read(key.data)
            now = time.monotonic()
            for page in self._pages:
                if page.due <= now:
                    page.ask()
                    if page.socket is not None:
                        self._selector.register(page.socket, selectors.EVENT_READ, page)
            if not said and all(stream.opened for stream in self._streams):
                said = True
                print("open", flush=True)

    def _read(self, what: Stream | Page) -> None:
        asked = what.socket
        assert asked is not None
        if isinstance(what, Page):
            if what.read():
                self._selector.unregister(asked)
            return
        try:
            what.read()
        except ConnectionError:
            what.ended = True
        if what.ended:
            self._selector.unregister(asked)
            asked.close()

    def found(self) -> dict[str, float]:
        """Return what came, and what it cost this process."""
        times = sorted(each for page in self._pages for each in page.times)
        return {
            "bytes": sum(stream.bytes for stream in self._streams),
            "sends": sum(stream.sends for stream in self._streams),
            "ended": sum(stream.ended for stream in self._streams),
            "reads": len(times),
            "read.p50": times[len(times) // 2] if times else 0.0,
            "cpu": time.process_time(),
        }


def main() -> None:
    """Watch until a line is written to it, then print what came as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--streams", type=int, default=0)
    options = parser.parse_args()
    watchers = Watchers(options.port, options.pages, options.streams)
    watchers.run()
    print(json.dumps(watchers.found()))


if __name__ == "__main__":
    main()
