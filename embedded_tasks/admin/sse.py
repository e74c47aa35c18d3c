"""Server-sent events as bytes, and the answer that carries them.

What lives here: the wire format, and the headers that keep proxies from holding events back. What
does not: where events come from (`feed`). Called by the streams of this folder.
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi.responses import StreamingResponse

__all__ = ["KEEP_ALIVE", "EventStream", "frame", "retry"]

KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment: it carries nothing, and shows both ends that the connection is there."""

_RECONNECT: Final = 3.0
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


class EventStream(StreamingResponse):
    """A stream of server-sent events."""

    media_type = "text/event-stream"

    def init_headers(self, headers: Any = None) -> None:
        """Set the headers, and tell proxies not to gather events."""
        super().init_headers(headers)
        self.headers["X-Accel-Buffering"] = "no"
        self.headers["Cache-Control"] = "no-store"


def retry(seconds: float = _RECONNECT) -> bytes:
    """Return the word that sets how long a client waits before it connects again."""
    return f"retry: {round(seconds * 1000)}\n\n".encode("ascii")


def frame(event: str, data: object, id: str | int | None = None) -> bytes:
    """Return one event.

    Args:
        event: Its name, one word.
        data: Plain JSON.
        id: Where a client that comes again goes on; None leaves that as it is.
    """
    # ASCII without line ends: nothing in the data can end the event, or begin another.
    text = _ENCODE(data)
    place = "" if id is None else f"id: {id}\n"
    return f"{place}event: {event}\ndata: {text}\n\n".encode("ascii")
