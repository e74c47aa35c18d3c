"""The few things that processes tell each other.

What lives here: the kinds of message and their 17 bytes. What does not: pipes. Called by
`mailbox.py` and `peers.py`; the kinds by the runner's services.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["MESSAGE_SIZE", "NOBODY", "Kind", "decode", "encode"]

MESSAGE_SIZE: Final = 17
NOBODY: Final = ""
"""The sender of what could not be understood."""


class Kind(Enum):
    """What a message says. Each is a hint to look; none carries the fact itself."""

    WORK = b"w"
    """Something due was stored."""
    HELLO = b"h"
    """I am new: open my pipe."""
    WAITING = b"q"
    """I have somebody waiting for results: tell me after each settle, and answer now."""
    NOT_WAITING = b"n"
    """Nobody waits here any more."""
    SETTLED = b"s"
    """I have settled something: look whether it is yours."""
    CANCEL = b"c"
    """Look at your running jobs: one was cancelled."""
    QUEUES = b"p"
    """Look at which queues are paused."""


_KINDS: Final = {kind.value: kind for kind in Kind}


def encode(kind: Kind, sender_id: str) -> bytes:
    """Return the bytes of a message; fewer than PIPE_BUF, so they are written whole or not."""
    return kind.value + bytes.fromhex(sender_id)


def decode(data: bytes) -> list[tuple[Kind, str]]:
    """Return the messages in some bytes, each once, in the order of their last occurrence.

    Whatever cannot be understood, a rest of a message included, is WORK from `NOBODY`.
    """
    messages: dict[tuple[Kind, str], None] = {}
    for start in range(0, len(data), MESSAGE_SIZE):
        message = data[start : start + MESSAGE_SIZE]
        kind = _KINDS.get(message[:1])
        known = kind is not None and len(message) == MESSAGE_SIZE
        found = (kind, message[1:].hex()) if kind and known else (Kind.WORK, NOBODY)
        messages.pop(found, None)
        messages[found] = None
    return list(messages)
