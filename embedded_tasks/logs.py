"""Events as log lines, through structlog, with constant names and never with arguments.

What lives here: one observer. What does not: structlog's configuration, which is the app's own.
Built by the runner.
"""

from __future__ import annotations

import structlog

from embedded_tasks.events import EventName, JobEvent

__all__ = ["LogObserver"]

_log = structlog.get_logger("embedded_tasks")

_LEVELS = {
    EventName.RETRY_SCHEDULED: "warning",
    EventName.FAILED: "error",
    EventName.EXPIRED: "warning",
    EventName.HELD: "error",
    EventName.CRASHED: "error",
    EventName.ABANDONED: "error",
    EventName.BLOCKED_LOOP: "warning",
}


class LogObserver:
    """Logs what a person should know of; a success only if asked.

    Args:
        successes: Log every success too.
    """

    def __init__(self, *, successes: bool) -> None:
        self._successes = successes

    def __call__(self, event: JobEvent) -> None:
        """Log one event."""
        if event.name is EventName.SUCCEEDED and not self._successes:
            return
        values: dict[str, object] = {"job_id": event.job_id, "task": event.task}
        values["attempt"] = event.attempt
        if event.request_id is not None:
            values["request_id"] = event.request_id
        for name, value in event.details.items():
            if name != "traceback":
                values[name] = round(value, 4) if isinstance(value, float) else value
            elif event.name is EventName.FAILED:
                # A word of structlog's own, which its console renderer prints over several lines.
                # Of its other one, "exception", releases before 26 warn where rich is installed.
                values["stack"] = value
        level = _LEVELS.get(event.name, "info")
        getattr(_log, level)(event.name.value, **values)
