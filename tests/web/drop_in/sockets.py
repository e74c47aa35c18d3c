"""A WebSocket, message by message.

What lives here: one connection to an app. What does not: HTTP (`serving.py`). Used by the tests of
the adapter.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Message


async def talk(app: Any, path: str, *said: str) -> list[str]:
    """Connect, say something, and go away; return what the app said."""
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"x-request-id", b"ws-1")],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "subprotocols": [],
    }
    to_app: list[Message] = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in said),
        {"type": "websocket.disconnect", "code": 1000},
    ]
    heard: list[str] = []

    async def receive() -> Message:
        return to_app.pop(0)

    async def send(message: Message) -> None:
        heard.append(message.get("text") or message["type"])

    await app(scope, receive, send)
    return heard
