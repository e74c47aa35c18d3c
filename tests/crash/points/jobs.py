"""The jobs of the crash points, and the log in which they and the script write.

What lives here: functions that say what they did. What does not: the script (`script.py`). Imported
by it, and by the runner that goes on after it.
"""

from __future__ import annotations

import os

__all__ = ["CLAIMED", "OTHER", "gone", "say", "work"]

CLAIMED, OTHER = "tests.crash.points.jobs:work", "tests.crash.points.jobs:gone"


def say(word: str, key: str) -> None:
    """Write one line in one system call: what happened to which key."""
    number = os.open(os.environ["POINTS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(number, f"{word} {key}\n".encode())
    os.close(number)


async def work(key: str) -> None:
    say("did", key)


async def gone(key: str) -> None:
    """A task that a process of the script says it does not know."""
    say("did", key)
