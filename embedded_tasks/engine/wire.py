"""What parent and child say to each other: JSON messages over a socket, and what they mean.

What lives here: framing, and a child's answers as values. What does not: processes. Used by
`children.py` in the parent and `child.py` in the child.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from embedded_tasks.context import JobCancelled
from embedded_tasks.job import AttemptError
from embedded_tasks.retry import Snooze

__all__ = [
    "ChildDied",
    "Encoded",
    "Message",
    "NotRunnable",
    "Order",
    "RemoteError",
    "Unpacker",
    "answer",
    "pack",
]

_HEAD = struct.Struct("!I")

Message = dict[str, Any]


class Order(NamedTuple):
    """A call for a child: names and texts only.

    Args:
        task: The stored name.
        version: The version of the task that stored the arguments.
        args: The encoded arguments.
        options: The job's own options, encoded.
        log: What the function's log lines carry.
    """

    task: str
    version: int
    args: str
    options: str | None
    log: Mapping[str, Any]


class Encoded(NamedTuple):
    """A result that a child has encoded, or the reason why it could not."""

    text: str | None
    reason: str | None


class RemoteError(Exception):
    """An error that a function raised in a child.

    Args:
        record: The error as text.
        gives_up: Whether the policy does not retry it.
        again: Whether the function asked to be retried.
        after: Seconds until then, where it said so.
    """

    def __init__(
        self, record: AttemptError, *, gives_up: bool, again: bool, after: float | None
    ) -> None:
        self.record = record
        self.gives_up = gives_up
        self.again = again
        self.after = after
        super().__init__(f"{record.type}: {record.message}")


class NotRunnable(Exception):
    """The child did not call the function: it does not have it, or the arguments do not fit.

    Args:
        reason: Why, in words.
        held_for: What the job waits for now.
    """

    def __init__(self, reason: str, held_for: str) -> None:
        self.reason = reason
        self.held_for = held_for
        super().__init__(reason)


class ChildDied(Exception):
    """The child died under the call, or was killed for it.

    Args:
        reason: How, in words.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def pack(message: Message) -> bytes:
    """Return a message as bytes."""
    # A log line may carry anything; what is no JSON goes as its text.
    text = json.dumps(message, default=str).encode("ascii")
    return _HEAD.pack(len(text)) + text


class Unpacker:
    """Bytes, as they come, to messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete now."""
        self._bytes += data
        while len(self._bytes) >= _HEAD.size:
            end = _HEAD.size + _HEAD.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                return
            message = json.loads(self._bytes[_HEAD.size : end])
            del self._bytes[:end]
            yield message


def answer(message: Message, *, stopped: bool) -> tuple[Encoded | None, BaseException | None]:
    """Return a child's answer as the value or the error of the call.

    Args:
        message: What the child sent.
        stopped: Whether it had been told to stop.
    """
    if "snooze" in message:
        return None, Snooze(message["snooze"], reason=message["reason"])
    if "held_for" in message:
        return None, NotRunnable(message["reason"], message["held_for"])
    if "error" not in message:
        return Encoded(message["text"], message["reason"]), None
    if stopped and message["cancelled"]:
        return None, JobCancelled("it was told to stop")
    return None, RemoteError(
        AttemptError(*message["error"]),
        gives_up=message["gives_up"],
        again=message["again"],
        after=message["after"],
    )
