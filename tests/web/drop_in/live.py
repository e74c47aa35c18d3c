"""A real server: uvicorn on a real socket, in a thread of this process.

What lives here: starting and stopping it, and plain HTTP by hand, byte by byte. What does not: any
app. Used by the tests of the adapter.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

R = TypeVar("R")


class Live(uvicorn.Server):
    """A server that says when it is up."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        super().__init__(uvicorn.Config(app, log_level="error", lifespan="on"))
        self.listener = listener
        self.up = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.up.set()

    def on_loop(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the server's loop."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def get(self, path: str) -> socket.socket:
        """Send a request and read nothing."""
        connection = self.connect()
        request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        return connection


@contextmanager
def live(app: FastAPI) -> Iterator[Live]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Live(app, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert server.up.wait(30), "the server did not start"
            yield server
        finally:
            server.should_exit = True
            thread.join(30)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def has_bytes(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(30)
