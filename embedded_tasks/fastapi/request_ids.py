"""Which request a job comes from.

What lives here: reading the ids that a request brings. What does not: storing them. Called by
`batch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from typing import Any

from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from embedded_tasks.enqueue import Origin

__all__ = ["origin_of"]

_LONGEST_ID = 200
_BOUND = f"{STRUCTLOG_KEY_PREFIX}request_id"


def origin_of(scope: Mapping[str, Any], context: Context) -> Origin:
    """Return the ids of a request, from structlog's context or its headers.

    Args:
        scope: The request's ASGI scope.
        context: A copy of the context that it runs in.
    """
    request_id, traceparent = _bound_in(context), None
    # Starlette's `Headers` builds a list of its own at each request. The first of each name counts.
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = request_id or str(value, "latin-1")
        elif name == b"traceparent" and traceparent is None:
            traceparent = str(value, "latin-1")
    # Both may come from anybody, and go into rows and logs.
    return Origin(
        request_id and request_id[:_LONGEST_ID], traceparent and traceparent[:_LONGEST_ID]
    )


def _bound_in(context: Context) -> str | None:
    """Return structlog's request id, without a copy of all that is bound."""
    for variable in context:
        if variable.name == _BOUND:
            bound = context[variable]
            return bound if isinstance(bound, str) else None
    return None
