"""One request to an app, with neither a server nor a client around it.

What lives here: what a server would hand to an app for it. What does not: the app. Used by the
tests that count what a request costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message

__all__ = ["post"]


async def post(app: ASGIApp, path: str, answered: Callable[[], None] = lambda: None) -> None:
    """Send a request without a body, which must be answered with 200.

    Args:
        app: The app.
        path: The path.
        answered: Called when the answer begins.
    """
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "server": ("localhost", 80),
        "client": ("localhost", 1),
    }

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            answered()

    await app(scope, _receive, send)


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
