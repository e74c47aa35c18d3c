"""Where a thread is.

What lives here: that it is told, and that no garbage is collected meanwhile. What does not: blocked
loops and hung functions. Run by pytest.
"""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

import pytest

from embedded_tasks.frames import frame_of


def test_the_frame_of_a_thread_is_told() -> None:
    frame = frame_of(threading.get_ident())
    assert frame is not None
    assert frame.f_back is sys._getframe()
    assert frame_of(-1) is None


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_the_interpreter_is_locked(
    monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    seen: list[bool] = []

    def look() -> dict[int, FrameType]:
        seen.append(gc.isenabled())
        return {}

    monkeypatch.setattr(sys, "_current_frames", look)
    if not enabled:
        gc.disable()
    try:
        frame_of(1)
        assert (seen, gc.isenabled()) == ([False], enabled)
    finally:
        gc.enable()
