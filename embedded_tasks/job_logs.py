"""Lines that a task logs, kept with its job: what an app adds to its own logging, if it likes.

What lives here: a processor for structlog and a handler for `logging`. What does not: any
configuration; that is the app's. Used by apps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from embedded_tasks.context import present_context

__all__ = ["JobLogHandler", "capture"]

_OURS: Final = frozenset({"attempt", "event", "job_id", "level", "request_id", "task", "timestamp"})


def capture(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Keep what is logged inside a task with its job; a structlog processor.

    It changes nothing. Put it before the processor that renders.

    Example:
        ```python
        import structlog
        from embedded_tasks.job_logs import capture

        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                capture,
                structlog.processors.JSONRenderer(),
            ]
        )
        ```
    """
    context = present_context()
    if context is not None:
        fields = {name: value for name, value in event.items() if name not in _OURS}
        context.log(str(event.get("event", "")), level=method, **_safe(fields))
    return event


class JobLogHandler(logging.Handler):
    """Keeps what is logged inside a task with its job; a handler for `logging`.

    Example:
        ```python
        import logging
        from embedded_tasks.job_logs import JobLogHandler

        logging.getLogger().addHandler(JobLogHandler())
        ```
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, if a task has logged it."""
        context = present_context()
        if context is None:
            return
        try:
            context.log(self.format(record), level=record.levelname.lower(), logger=record.name)
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(record)


def _safe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields whose names do not clash with the parameters of `log`."""
    return {f"{name}_" if name in ("text", "self") else name: fields[name] for name in fields}
