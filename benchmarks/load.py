"""A load generator: keep-alive connections that ask for one path as fast as they are answered.

What lives here: a bare HTTP/1.1 client and a process of its own around it. What does not: the
server. Started by `web.py` as `python -m benchmarks.load`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from benchmarks.figures import percentile

__all__: list[str] = []

_WARM_UP = 0.2


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request.

    Args:
        request: The request as it goes over the wire.
        times: Gets when each request was sent and how many seconds its answer took.
        pause: Seconds between an answer and the next request.
    """

    def __init__(
        self, request: bytes, times: list[tuple[float, float]], pause: float = 0.0
    ) -> None:
        self._pause = pause
        self._request = request
        self._times = times
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"the server answered {head.splitlines()[0].decode()}")
            return
        self._times.append((self._sent_at, time.perf_counter() - self._sent_at))
        self._received = b""
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the server closed a connection ({exc})")

    def close(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(reason))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("an answer without a content-length")


async def load(
    port: int, path: str, connections: int, seconds: float, pause: float = 0.0
) -> dict[str, float]:
    """Return requests per second and the times of answers, in milliseconds."""
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    times: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    made = [
        (
            await loop.create_connection(
                lambda: Connection(request, times, pause), "127.0.0.1", port
            )
        )[1]
        for _ in range(connections)
    ]
    begin = time.perf_counter() + _WARM_UP
    ended = [connection.ended for connection in made]
    timeout = _WARM_UP + seconds
    # One answer there must be, however slow the machine is just now.
    while not await _first_ends(ended, timeout) and not any(sent >= begin for sent, _ in times):
        timeout = seconds
    end = time.perf_counter()
    for connection in made:
        connection.close()
        connection.ended.result()
    answers = [took * 1000 for sent, took in times if sent >= begin]
    return {
        "rate": len(answers) / (end - begin),
        "p50": percentile(answers, 50),
        "p99": percentile(answers, 99),
    }


async def _first_ends(ended: list[asyncio.Future[None]], timeout: float) -> bool:
    done, _ = await asyncio.wait(ended, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def main() -> None:
    """Load a server and print what came of it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    result = asyncio.run(
        load(options.port, options.path, options.connections, options.seconds, options.pause)
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
