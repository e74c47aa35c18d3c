"""What may stand in a request: every parameter's type, bounds and words, in one place.

What lives here: the types of parameters, and the filter of jobs. What does not: what is done with
them. Used by the endpoints.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

from fastapi import Header, Path
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from embedded_tasks.admin.cursors import CURSOR
from embedded_tasks.job import ShownState
from embedded_tasks.store import JobFilter

__all__ = [
    "PRINTABLE",
    "AuditQuery",
    "IfMatch",
    "IfNoneMatch",
    "JobId",
    "JobQuery",
    "JobSelection",
    "LastEventId",
    "LogQuery",
    "QueueName",
    "filter_of",
]

_LONGEST_TEXT = 500
_LONGEST_LABEL = 200
_LONGEST_PAGE = 200
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:")
_MOMENT: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
_LARGEST_INT = 2**63 - 1

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: they are in no name, and NUL would end a text for many readers."""

_Text = Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT, pattern=PRINTABLE)]
_Label = Annotated[str, Field(min_length=1, max_length=_LONGEST_LABEL, pattern=PRINTABLE)]

JobId = Annotated[UUID, Path(description="The id that `enqueue` returned.")]
QueueName = Annotated[
    str,
    Path(
        description="The queue's name.",
        min_length=1,
        max_length=_LONGEST_LABEL,
        pattern=PRINTABLE,
        examples=["mail"],
    ),
]
_ETAGS = Field(max_length=2_000, pattern=r"^[\x20-\x7e]*$")
IfMatch = Annotated[
    str | None,
    Header(description="The `ETag` that was read; 412 if the job has changed since."),
    _ETAGS,
]
IfNoneMatch = Annotated[
    str | None, Header(description="The `ETag` that is known; 304 if it is the same."), _ETAGS
]
LastEventId = Annotated[
    str | None,
    Header(
        description="The id of the last event that was seen; the stream goes on behind it.",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
    ),
]


def _written_out(value: object) -> object:
    """Return the moment of a text; not of a number, which might be seconds or milliseconds."""
    if not isinstance(value, str):
        return value
    try:
        if _DATE_TIME.match(value) is None:
            raise ValueError
        return _MOMENT.validate_python(value)
    except ValueError:
        raise ValueError("Write date, time and zone, such as 2030-01-31T12:00:00Z.") from None


_Time = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class JobSelection(BaseModel):
    """Which jobs are meant; all that is given must hold."""

    # A name that is spelt wrong must not mean "all jobs".
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    state: Annotated[
        list[ShownState] | None,
        Field(description="In this state, or one of these.", max_length=len(ShownState)),
    ] = None
    task: Annotated[_Text | None, Field(description="The task's full name.")] = None
    queue: Annotated[_Label | None, Field(description="The queue's name.")] = None
    tag: Annotated[_Label | None, Field(description="A tag that the job has.")] = None
    owner: Annotated[_Text | None, Field(description="The `owner` of the job's options.")] = None
    group: Annotated[_Text | None, Field(description="The id of an error group.")] = None
    argument: Annotated[
        _Text | None, Field(description="A text in the arguments as they are shown.")
    ] = None
    error: Annotated[
        _Text | None, Field(description="A text in the reason, or in an attempt's error.")
    ] = None
    text: Annotated[_Text | None, Field(description="A text in arguments or errors.")] = None
    created_after: Annotated[_Time | None, Field(description="Created then or later.")] = None
    created_before: Annotated[_Time | None, Field(description="Created earlier.")] = None
    finished_after: Annotated[_Time | None, Field(description="Finished then or later.")] = None
    finished_before: Annotated[_Time | None, Field(description="Finished earlier.")] = None


class JobQuery(JobSelection):
    """Which page of which jobs."""

    limit: Annotated[int, Field(description="How many at most.", ge=1, le=_LONGEST_PAGE)] = 50
    cursor: Annotated[
        str | None, Field(description="`next_cursor` of the page before.", pattern=CURSOR)
    ] = None
    total: Annotated[
        bool, Field(description="Count them too, up to a cap; not for a search in arguments.")
    ] = False


class LogQuery(BaseModel):
    """Which lines of a job's log."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    after: Annotated[
        int, Field(description="Only lines with a higher id.", ge=0, le=_LARGEST_INT)
    ] = 0
    limit: Annotated[int, Field(description="How many at most.", ge=1, le=1_000)] = 500


class AuditQuery(BaseModel):
    """Which page of the audit trail."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(description="How many at most.", ge=1, le=_LONGEST_PAGE)] = 50
    cursor: Annotated[
        str | None, Field(description="`next_cursor` of the page before.", pattern=CURSOR)
    ] = None


def filter_of(chosen: JobSelection, limit: int = 50, before: int | None = None) -> JobFilter:
    """Return what the store is asked for.

    Args:
        chosen: Which jobs.
        limit: How many at most.
        before: The key of a job; only older ones.
    """
    return JobFilter(
        state=chosen.state or None,
        task=chosen.task,
        queue=chosen.queue,
        tag=chosen.tag,
        belongs_to=chosen.owner,
        group=chosen.group,
        argument=chosen.argument,
        error=chosen.error,
        text=chosen.text,
        before=before,
        limit=limit,
        created_after=_seconds(chosen.created_after),
        created_before=_seconds(chosen.created_before),
        finished_after=_seconds(chosen.finished_after),
        finished_before=_seconds(chosen.finished_before),
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
