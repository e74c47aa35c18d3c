"""The endpoint that enqueues tasks which the developer has listed for this router, and no others.

What lives here: what a client may send for each of them. What does not: storing. Included by
`routes` where there is such a list.
"""

from __future__ import annotations

import inspect
import operator
import types
import typing
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal

from fastapi import Depends, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model
from pydantic.errors import PydanticUserError

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.bodies import BODY_STATUSES, described, json_body
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.models import JobLine
from embedded_tasks.context import JobContext
from embedded_tasks.errors import ArgumentsError, ConfigurationError, NotDurableError

__all__ = ["endpoints"]

_LONGEST_DELAY = 366 * 86_400
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PLACE: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}}}
}


class _Request(BaseModel):
    """What every request has, whatever its task."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    delay: Annotated[
        float, Field(description="Seconds until it is due.", ge=0, le=_LONGEST_DELAY)
    ] = 0.0


def endpoints(desk: Desk, functions: Sequence[Callable[..., Any]]) -> list[Endpoint]:
    """Return the route.

    Args:
        desk: What all endpoints share.
        functions: The tasks that clients may enqueue.

    Raises:
        ConfigurationError: One of them cannot be called with what JSON can say.
    """
    if not functions:
        return []
    given: Any = functions
    if isinstance(given, str) or not all(map(callable, given)):
        raise ConfigurationError(f"enqueue={given!r}: expected a list of functions.")
    by_name = {desk.task_name(function): function for function in functions}
    body = _body_model(by_name)
    read = json_body(body)
    each = _Endpoints(desk, by_name)

    async def enqueue_job(response: Response, body: Any = Depends(read)) -> JobLine:
        """Store a job of one of the tasks that are listed for it; when this answers, it is on disk.

        Each request stores a job of its own, also when it is sent twice.
        """
        return await each.enqueue(body.root, response)

    return [
        Endpoint(
            "POST",
            "/jobs",
            enqueue_job,
            JobLine,
            role=Role.OPERATE,
            status=202,
            statuses=BODY_STATUSES,
            extra=described(body),
            responses=_PLACE,
        )
    ]


def _body_model(functions: dict[str, Callable[..., Any]]) -> type[BaseModel]:
    """Return a model of one request for each task."""
    models = [_request_model(name, function) for name, function in functions.items()]
    union: Any = reduce(operator.or_, models)
    kind: Any = union if len(models) == 1 else Annotated[union, Field(discriminator="task")]
    return RootModel[kind]


class _Endpoints:
    def __init__(self, desk: Desk, functions: dict[str, Callable[..., Any]]) -> None:
        self._desk = desk
        self._functions = functions

    async def enqueue(self, wanted: Any, response: Response) -> JobLine:
        """Store a job."""
        given: BaseModel = wanted.arguments
        fields = type(given).model_fields
        # Only what was sent: the function's own defaults stay its own.
        arguments = {str(fields[key].alias): getattr(given, key) for key in given.model_fields_set}
        options = self._desk.runner.options(delay=wanted.delay)
        try:
            job = await options.enqueue(self._functions[wanted.task], **arguments)
        except (ArgumentsError, NotDurableError) as error:
            raise HTTPException(422, str(error)) from None
        response.headers["Location"] = f"jobs/{job.id}"
        return await self._desk.line(await self._desk.runner.reports.job(job.id))


def _request_model(name: str, function: Callable[..., Any]) -> type[_Request]:
    arguments = _arguments_model(name, function)
    needed = any(field.is_required() for field in arguments.model_fields.values())
    fields: dict[str, Any] = {
        "task": (Literal[name], ...),
        "arguments": (arguments, ... if needed else Field(default_factory=arguments)),
    }
    return create_model(f"Enqueue {name}", __base__=_Request, **fields)


def _arguments_model(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    try:
        fields = _fields(name, function)
        model: type[BaseModel] = create_model(
            f"Arguments of {name}", __config__=ConfigDict(extra="forbid"), **fields
        )
        model.model_json_schema()
    except (NameError, PydanticUserError, TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"enqueue=: the parameters of {name} cannot be sent as JSON: {error}"
        ) from error
    return model


def _fields(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        hint = hints.get(parameter.name, Any)
        if _is_context(hint):
            continue
        if parameter.kind not in _BY_NAME:
            raise ConfigurationError(f"enqueue=: {name} takes {parameter}, not by a name.")
        # Any name will do for a parameter, but not for a field; and what stands as a default
        # in the code is not told.
        field: Any = (
            Field(alias=parameter.name)
            if parameter.default is parameter.empty
            else Field(alias=parameter.name, default_factory=lambda: None)
        )
        fields[f"p{index}"] = (hint, field)
    return fields


def _is_context(hint: object) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return JobContext in typing.get_args(hint)
    return hint is JobContext
