"""Telling a process from its forked children.

What lives here: `embedded_tasks/forks.py`, with real forks. What does not: who asks.
"""

from __future__ import annotations

import os

from embedded_tasks.forks import forks


def test_a_forked_child_and_its_child_count_one_more_each() -> None:
    before = forks()
    child = os.fork()
    if child == 0:
        grown = forks() - before
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(forks() - before)
        _, status = os.waitpid(grandchild, 0)
        os._exit(10 * grown + os.waitstatus_to_exitcode(status))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 12
    assert forks() == before
