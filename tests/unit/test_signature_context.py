"""Where a task's context goes: any way of annotating one parameter with `JobContext`.

What lives here: how the parameter is recognised and filled. What does not: what a context says.
Run by pytest.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, Optional

import pytest

from embedded_tasks import context
from embedded_tasks.context import JobContext
from embedded_tasks.signature import Signature

CONTEXT = JobContext(job_id="1", task="t", attempt=1)


def plain(number: int, ctx: JobContext) -> None: ...


def first(ctx: JobContext, number: int) -> None: ...


def keyword_only(number: int, *, ctx: JobContext) -> None: ...


def dotted(number: int, ctx: context.JobContext) -> None: ...


def or_none(number: int, ctx: JobContext | None = None) -> None: ...


def optional(number: int, ctx: Optional[JobContext] = None) -> None: ...  # noqa: UP045


def typing_optional(number: int, ctx: typing.Optional[JobContext] = None) -> None: ...  # noqa: UP045


def resolved(number, ctx=None): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201


resolved.__annotations__ = {"ctx": JobContext | None}


@pytest.mark.parametrize(
    "function",
    [plain, first, keyword_only, dotted, or_none, optional, typing_optional, resolved],
)
def test_the_context_comes_where_the_annotation_says(function: Callable[..., Any]) -> None:
    signature = Signature(function, JobContext)
    assert signature.problem((7,), {}, check_types=False) is None
    args, kwargs = signature.with_context((7,), {}, CONTEXT)
    names = function.__code__.co_varnames[: len(args)]
    assert {**dict(zip(names, args, strict=True)), **kwargs} == {"number": 7, "ctx": CONTEXT}


def nothing(number: int, other: int | None = None) -> None: ...


def many(number: list[JobContext]) -> None: ...


@pytest.mark.parametrize("function", [nothing, many])
def test_other_parameters_are_the_callers(function: Callable[..., Any]) -> None:
    assert Signature(function, JobContext).with_context((7,), {}, CONTEXT) == ((7,), {})
