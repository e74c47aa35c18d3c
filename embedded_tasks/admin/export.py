"""The endpoint that writes a filtered set of jobs out, as NDJSON or as CSV.

What lives here: streaming page after page. What does not: which jobs (`fields`) and what is told
of them (`shown`). Included by `routes`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.fields import JobSelection, filter_of
from embedded_tasks.admin.models import JobLine

__all__ = ["ExportCutError", "ExportForm", "ExportQuery", "endpoints", "exported"]

# A Literal and no enum: old releases of FastAPI cannot describe an enum with a default.
ExportForm = Literal["ndjson", "csv"]
"""How jobs are written out: a JSON object a line, or a table for spreadsheets."""

_PAGE: Final = 200
_MOST: Final = 1_000_000
# A spreadsheet takes a cell that begins so for a formula, and runs it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLUMNS: Final = tuple(JobLine.model_fields)


class ExportCutError(Exception):
    """An export was cut off, because its process ends."""


class ExportQuery(JobSelection):
    """Which jobs, and how they are written out."""

    form: Annotated[ExportForm, Field(description="A JSON object a line, or a table.")] = "ndjson"
    limit: Annotated[int, Field(description="How many at most.", ge=1, le=_MOST)] = 100_000


_TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    answer: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The jobs, newest first, without their arguments.",
            "content": {
                kind: {"schema": {"type": "string"}}
                for kind in ("application/x-ndjson", "text/csv")
            },
        }
    }
    return [
        Endpoint(
            "GET",
            "/jobs/export",
            each.export_jobs,
            None,
            statuses=(422,),
            responses=answer,
            answers=Response,
        )
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def export_jobs(self, query: Annotated[ExportQuery, Query()]) -> Response:
        """Write out the jobs that match, newest first, secrets masked, as they are read."""
        lines = exported(self._desk, query)
        # What can fail should fail before the answer has begun.
        first = await anext(lines, "")

        async def whole() -> AsyncIterator[str]:
            yield first
            async for line in lines:
                yield line

        name = f"{self._desk.name}-jobs.{query.form}"
        return StreamingResponse(
            whole(),
            media_type=_TYPES[query.form],
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


async def exported(desk: Desk, query: ExportQuery) -> AsyncIterator[str]:
    """Yield the jobs that match as text, a page at a time.

    Raises:
        ExportCutError: The process was told to end. A stream that simply ended here would look
            whole; one that breaks does not.
    """
    write: Callable[[Iterable[JobLine]], str] = _WRITE[query.form]
    stopping = desk.runner.stopping
    left, before = query.limit, None
    header = _row(_COLUMNS) if query.form == "csv" else ""
    while left > 0:
        if stopping.is_set():
            raise ExportCutError
        wanted = filter_of(query, min(left, _PAGE), before)
        page = await desk.runner.reports.jobs(wanted, shows=desk.shown)
        yield header + write([await desk.line(record) for record in page.jobs])
        header = ""
        left -= len(page.jobs)
        before = page.next
        if before is None:
            return


def _ndjson(lines: Iterable[JobLine]) -> str:
    return "".join(f"{line.model_dump_json()}\n" for line in lines)


def _csv(lines: Iterable[JobLine]) -> str:
    return "".join(_row(line.model_dump(mode="json").values()) for line in lines)


def _row(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_cell(value) for value in values])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # An apostrophe makes a text of it, and is not shown.
        return f"'{value}" if value.startswith(_FORMULA) else value
    return json.dumps(value, ensure_ascii=False)


_WRITE: Final[dict[ExportForm, Callable[[Iterable[JobLine]], str]]] = {
    "ndjson": _ndjson,
    "csv": _csv,
}
