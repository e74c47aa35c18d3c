"""Where a task's function is called: on the event loop, or in threads of our own.

Called by `attempt.py`; it knows nothing of jobs, stores or policy.
"""

from __future__ import annotations

from embedded_tasks.engine.loop import LoopCall, start_on_loop
from embedded_tasks.engine.threads import ThreadCall, Threads

__all__ = ["LoopCall", "ThreadCall", "Threads", "start_on_loop"]
