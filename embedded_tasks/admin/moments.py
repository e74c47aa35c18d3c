"""Times as the routes write them.

What lives here: seconds since 1970 as UTC datetimes. What does not: taking the time. Called by the
models of this folder.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

__all__ = ["Moment", "known_moment", "moment"]

Moment = Annotated[datetime, Field(description="In UTC.")]


def known_moment(seconds: float) -> datetime:
    """Return a time; the last of all where it lies beyond the year 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # `finish_within` may reach as far
        return datetime.max.replace(tzinfo=UTC)


def moment(seconds: float | None) -> datetime | None:
    """Return a time, or None."""
    return None if seconds is None else known_moment(seconds)
