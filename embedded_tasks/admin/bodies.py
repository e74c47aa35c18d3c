"""What clients send: read only after the app's dependencies have let the request through.

What lives here: JSON bodies and form fields, with a limit, and their OpenAPI description. What
does not: what they mean. FastAPI itself would read a body before it asks any dependency, and would
tell strangers what is wrong with theirs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import Request

__all__ = ["BODY_STATUSES", "described", "form_fields", "json_body"]

BODY_STATUSES: Final = (400, 413, 415, 422)
"""What a route with a body may answer because of it."""

_LARGEST: Final = 2 * 1024 * 1024
_MOST_FIELDS: Final = 10_000
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_BODY = "body"

M = TypeVar("M", bound=BaseModel)


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Return a dependency that reads a JSON body.

    Args:
        model: What it must be.

    Example:
        `body: Annotated[BulkRequest, Depends(json_body(BulkRequest))]`
    """

    async def read(request: Request) -> M:
        _expect(request, _JSON)
        data = await _content(request)
        try:
            # This parser refuses what Python's lets through, such as lone surrogates and NaN.
            given = to_json(_whole_numbers(from_json(data, allow_inf_nan=False)))
        except ValueError as error:
            raise RequestValidationError([_odd(f"This cannot be read: {error}")]) from None
        try:
            # Strict: false is no 0, and "1" no 1; dates and the like are texts in JSON.
            return model.model_validate_json(given, strict=True)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            raise RequestValidationError(
                [{**each, "loc": (_BODY, *each["loc"])} for each in errors]
            ) from None

    return read


async def form_fields(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form that a page without JavaScript sends; a dependency."""
    _expect(request, _FORM)
    try:
        text = (await _content(request)).decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, "The form cannot be read.") from None


def described(model: type[BaseModel], *, examples: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what OpenAPI says of a JSON body.

    Args:
        model: What it must be.
        examples: Bodies, by a few words each.
    """
    schema = model.model_json_schema()
    content: dict[str, Any] = {"schema": _whole(schema, schema.pop("$defs", {}))}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {_JSON: content}}}


def _whole_numbers(value: Any) -> Any:
    """Return JSON with 5.0 as 5: it is an integer in JSON schema, and as good as one in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        # As 1e999 is: valid JSON, and beyond what would be stored.
        raise ValueError("a number in it is larger than any that can be stored")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _whole_numbers(each) for name, each in value.items()}
    return value


def _odd(what: str) -> dict[str, Any]:
    return {"type": "value_error", "loc": (_BODY,), "msg": what}


def _whole(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with what it refers to put in place; ours have no circles."""
    if isinstance(schema, list):
        return [_whole(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = definitions[schema["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _whole({**found, **rest}, definitions)
    # Names of definitions stay behind when those are put in place.
    return {
        key: {"propertyName": value["propertyName"]}
        if key == "discriminator"
        else _whole(value, definitions)
        for key, value in schema.items()
    }


def _expect(request: Request, kind: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise HTTPException(415, f"Send the body as {kind}.")


async def _content(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > _LARGEST:
            raise HTTPException(413, f"The body is larger than {_LARGEST:,} bytes.")
        parts.append(part)
    return b"".join(parts)
