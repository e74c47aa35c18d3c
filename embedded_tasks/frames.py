"""Where a thread is now.

What lives here: the one call of Python that tells, made safe. What does not: what is done with it.
Called by the watchdog, and by what tells of functions that hang.
"""

from __future__ import annotations

import gc
import sys
from types import FrameType

__all__ = ["frame_of"]


def frame_of(thread: int) -> FrameType | None:
    """Return the frame that a thread is in, or None where there is no such thread.

    Args:
        thread: Its `threading.get_ident`.
    """
    # The call holds a lock of the interpreter, and may begin a garbage collection. When that ends
    # something which lets go of the interpreter, and another thread begins a thread just then, both
    # wait for ever (python/cpython#106883; not mended in Python 3.11).
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread)
    finally:
        if collects:
            gc.enable()
