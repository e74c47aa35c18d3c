"""Which request a job comes from.

What lives here: reading the ids that a request brings. What does not: storing them. Called by
`batch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedded_tasks.enqueue import Origin

__all__ = ["origin_of"]

_LONGEST_ID = 200


def origin_of(scope: Mapping[str, Any]) -> Origin:
    """Return the ids of a request, from structlog's context or its headers."""
    request_id = Origin.current().request_id or _header(scope, b"x-request-id")
    traceparent = _header(scope, b"traceparent")
    # Both may come from anybody, and go into rows and logs.
    return Origin(
        request_id and request_id[:_LONGEST_ID], traceparent and traceparent[:_LONGEST_ID]
    )


def _header(scope: Mapping[str, Any], wanted: bytes) -> str | None:
    # Starlette's `Headers` builds a list of its own at each request.
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return None
