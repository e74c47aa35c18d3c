"""Errors as problem details (RFC 9457): what a client reads, and what the OpenAPI document says.

What lives here: the form of a problem, and which error becomes which. What does not: where they
are caught (`route`). Called by the other modules of this folder.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import HTTPException as FastAPIHTTPException, RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from embedded_tasks.errors import (
    JobNotFoundError,
    JobStateError,
    NotStartedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from embedded_tasks.job import ShownState

__all__ = ["HANDLERS", "MethodRefused", "documented", "problem"]

_MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER: Final = "5"
_LONGEST_DETAIL: Final = 2_000

_TEXT: Final = {"type": "string"}
_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong, after RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {**_TEXT, "description": "Always about:blank; `code` tells problems apart."},
        "title": {**_TEXT, "description": "The HTTP status in words."},
        "status": {"type": "integer"},
        "detail": {**_TEXT, "description": "What happened, and what to do."},
        "code": {**_TEXT, "description": "A constant name of the kind of problem."},
        "state": {
            "type": "string",
            "enum": [state.value for state in ShownState],
            "description": "With codes wrong_state and changed: the job's present state.",
        },
        "errors": {
            "description": "With code invalid_input: each parameter that was refused.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "name", "detail"],
                "properties": {"in": _TEXT, "name": _TEXT, "detail": _TEXT},
            },
        },
        "problems": {
            "description": "With code unhealthy: each thing that needs a person.",
            "type": "array",
            "items": _TEXT,
        },
    },
}
_MEANING: Final[Mapping[int, str]] = {
    400: "The request cannot be read.",
    401: "The app's own check does not know who asks.",
    403: "The app's own check refuses, or a page of another site sent this.",
    404: "No job has this id; retention may have removed it.",
    409: "The present state does not allow this; nothing was changed.",
    412: "The job has changed since it was read (If-Match); nothing was changed.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A parameter is not what it must be.",
    503: "The runner is not running, its store is unavailable, or it needs a person.",
}


class MethodRefused(HTTPException):
    """The path is there, and has other methods.

    Args:
        allowed: Which ones, as the header `Allow` names them.
    """

    def __init__(self, allowed: str) -> None:
        super().__init__(HTTPStatus.METHOD_NOT_ALLOWED, f"Use {allowed}.", {"Allow": allowed})


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """Return a problem.

    Args:
        status: The HTTP status.
        code: A constant name of the kind of problem.
        detail: What happened and what to do, in words.
        headers: Further headers.
        members: Further members, plain JSON.
    """
    title = HTTPStatus(status).phrase if status in _STATUSES else "Unknown status"
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    # ASCII: a lone surrogate in a text has no UTF-8.
    text = json.dumps({**body, "code": code, **members})
    return Response(text, status, headers=dict(headers or {}), media_type=_MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of these statuses."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "description": _MEANING[status],
        "content": {_MEDIA_TYPE: {"schema": _SCHEMA}},
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        wait = {"description": "Seconds to wait, where waiting may help.", "schema": _TEXT}
        entry["headers"] = {"Retry-After": wait}
    return entry


_STATUSES: Final = frozenset(HTTPStatus)
_JOB_ID: Final = ("path", "job_id")


async def _http(request: Request, error: Any) -> Response:
    if error.status_code < HTTPStatus.BAD_REQUEST:
        # A redirect to a login page is no problem.
        return await http_exception_handler(request, error)
    text = error.detail if isinstance(error.detail, str) else json.dumps(error.detail, default=str)
    code = "method_not_allowed" if isinstance(error, MethodRefused) else "http_error"
    return problem(error.status_code, code, text, headers=error.headers)


async def _invalid(_request: Request, error: Any) -> Response:
    if any(tuple(each.get("loc") or ())[:2] == _JOB_ID for each in error.errors()):
        # What no job can have as its id, no job has. It is not repeated: it may be anything.
        return problem(HTTPStatus.NOT_FOUND, "job_not_found", _MEANING[404])
    errors = [_refused_parameter(each) for each in error.errors()]
    words = "; ".join(f"{each['name'] or each['in']}: {each['detail']}" for each in errors)
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", words[:_LONGEST_DETAIL], errors=errors
    )


def _refused_parameter(error: Mapping[str, Any]) -> dict[str, str]:
    """Return one error without its input, which may be long, or a secret."""
    place, *names = map(str, error.get("loc") or ("request",))
    detail = str(error.get("msg", ""))[:_LONGEST_DETAIL]
    return {"in": place, "name": ".".join(names), "detail": detail}


async def _not_found(_request: Request, error: Any) -> Response:
    return problem(HTTPStatus.NOT_FOUND, "job_not_found", str(error))


async def _wrong_state(_request: Request, error: Any) -> Response:
    return problem(HTTPStatus.CONFLICT, "wrong_state", str(error), state=str(error.state))


async def _not_running(_request: Request, error: Any) -> Response:
    return _unavailable("not_running", error)


async def _store(_request: Request, error: Any) -> Response:
    return _unavailable("store_unavailable", error)


def _unavailable(code: str, error: Exception) -> Response:
    # A damaged file does not mend itself.
    passing = not isinstance(error, StoreFormatError)
    headers = {"Retry-After": _RETRY_AFTER} if passing else {}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, code, str(error), headers=headers)


HANDLERS: Final[Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]]] = {
    HTTPException: _http,
    FastAPIHTTPException: _http,
    RequestValidationError: _invalid,
    JobNotFoundError: _not_found,
    JobStateError: _wrong_state,
    NotStartedError: _not_running,
    # Each by name: an app's handler for one of them is meant for its own routes.
    **dict.fromkeys((StoreError, StoreFormatError, StoreUnavailableError), _store),
}
"""What each error becomes on our routes."""
