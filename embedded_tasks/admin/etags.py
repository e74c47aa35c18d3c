"""Versions of a job: whether it is still what a client has read.

What lives here: entity tags and the headers that name them. What does not: jobs. Called by the
endpoints of jobs.
"""

from __future__ import annotations

from hashlib import blake2b

from embedded_tasks.job import JobRecord

__all__ = ["etag_of", "is_known", "is_same"]


def etag_of(record: JobRecord) -> str:
    """Return the entity tag of a job; it changes with anything that is told of the job."""
    # All of the record, and not a counter: the shown state changes with time alone.
    return (
        f'"{blake2b(repr(record).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()}"'
    )


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Return whether an `If-None-Match` names this tag."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def is_same(etag: str, if_match: str | None) -> bool:
    """Return whether an `If-Match`, where there is one, allows a job with this tag."""
    if if_match is None:
        return True
    tags = [tag.strip() for tag in if_match.split(",")]
    return etag in tags or "*" in tags
