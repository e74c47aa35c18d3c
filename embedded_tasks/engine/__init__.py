"""Where a task's function is called: on the event loop, in our own threads, in child processes.

Called by `attempt.py`; it knows nothing of jobs, stores or policy.
"""

from __future__ import annotations

from embedded_tasks.engine.child import refuse_in_child
from embedded_tasks.engine.children import ChildCall, ChildOptions, Children
from embedded_tasks.engine.loop import LoopCall, start_on_loop
from embedded_tasks.engine.threads import ThreadCall, Threads
from embedded_tasks.engine.wire import ChildDied, Encoded, NotRunnable, Order, RemoteError

__all__ = [
    "ChildCall",
    "ChildDied",
    "ChildOptions",
    "Children",
    "Encoded",
    "LoopCall",
    "NotRunnable",
    "Order",
    "RemoteError",
    "ThreadCall",
    "Threads",
    "refuse_in_child",
    "start_on_loop",
]
