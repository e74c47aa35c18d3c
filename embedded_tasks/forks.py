"""Whether this process is a fork of the one that asked before.

What lives here: a count of forks, which costs nothing to read; a pid costs a system call. What does
not: what a fork may not use. Asked by whoever keeps something that only one process may have.
"""

from __future__ import annotations

import os

__all__ = ["forks"]

_lineage: list[None] = []
os.register_at_fork(after_in_child=lambda: _lineage.append(None))


def forks() -> int:
    """Return how many forks lie between this process and the one that imported this module.

    It differs between a process and its children, and stays the same while a process lives.
    """
    return len(_lineage)
