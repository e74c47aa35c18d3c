"""How a function is called: its arity, the types of its parameters, and where its context goes.

What lives here: `embedded_tasks/signature.py`. What does not: how arguments are stored. Called by
pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from embedded_tasks import context as context_module
from embedded_tasks.context import JobContext
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.signature import Signature

CONTEXT = JobContext(job_id="j", task="t", attempt=1)


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(function, JobContext)


def placed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with its context put in, as an attempt does."""
    given, named = signature(function).with_context(args, kwargs, CONTEXT)
    return function(*given, **named)


# The context.


def first(ctx: JobContext, a: int, b: int = 2) -> tuple[Any, ...]:
    return ctx, a, b


def middle(a: int, ctx: JobContext, b: int = 2) -> tuple[Any, ...]:
    return ctx, a, b


def last(a: int, b: int, ctx: JobContext) -> tuple[Any, ...]:
    return ctx, a, b


def keyword_only(a: int, b: int = 2, *, ctx: JobContext) -> tuple[Any, ...]:
    return ctx, a, b


def positional_only(a: int, ctx: JobContext, b: int, /) -> tuple[Any, ...]:
    return ctx, a, b


def optional(a: int, b: int = 2, ctx: JobContext | None = None) -> tuple[Any, ...]:
    return ctx, a, b


def old_optional(a: int, b: int = 2, ctx: Optional[JobContext] = None) -> tuple[Any, ...]:  # noqa: UP045  # people write it
    return ctx, a, b


def by_module(a: int, b: int, ctx: context_module.JobContext) -> tuple[Any, ...]:
    return ctx, a, b


def behind_star(*numbers: int, ctx: JobContext) -> tuple[Any, ...]:
    return (ctx, *numbers)


def beside_double_star(ctx: JobContext, **numbers: int) -> tuple[Any, ...]:
    return (ctx, *numbers.values())


class CallableObject:
    def __call__(self, a: int, b: int, ctx: JobContext) -> tuple[Any, ...]:
        return ctx, a, b

    def method(self, a: int, b: int, ctx: JobContext) -> tuple[Any, ...]:
        return ctx, a, b

    @classmethod
    def of_class(cls, ctx: JobContext, a: int, b: int) -> tuple[Any, ...]:
        return ctx, a, b

    @staticmethod
    def static(ctx: JobContext, a: int, b: int) -> tuple[Any, ...]:
        return ctx, a, b


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


decorated = logged(middle)

TAKES_TWO = [
    first, middle, last, keyword_only, positional_only, optional, old_optional, by_module,
    behind_star, CallableObject(), CallableObject().method, CallableObject.of_class,
    CallableObject.static, decorated,
]  # fmt: skip  # a list of names


@pytest.mark.parametrize("function", TAKES_TWO)
def test_the_context_is_put_where_its_annotation_stands(function: Callable[..., Any]) -> None:
    assert placed(function, 1, 2) == (CONTEXT, 1, 2)


NAMED = [first, middle, last, keyword_only, optional, by_module, beside_double_star, decorated]


@pytest.mark.parametrize("function", NAMED)
def test_the_context_is_put_in_beside_keywords_too(function: Callable[..., Any]) -> None:
    assert placed(function, a=1, b=2) == (CONTEXT, 1, 2)


@pytest.mark.parametrize("function", [first, middle, keyword_only, optional, decorated])
def test_the_context_leaves_defaults_alone(function: Callable[..., Any]) -> None:
    assert placed(function, 1) == (CONTEXT, 1, 2)
    assert placed(function, 1, b=5) == (CONTEXT, 1, 5)


@pytest.mark.parametrize("function", TAKES_TWO)
def test_the_caller_does_not_give_the_context(function: Callable[..., Any]) -> None:
    assert signature(function).problem((1, 2), {}, check_types=False) is None
    if function is not behind_star:
        assert signature(function).problem((1, 2, 3), {}, check_types=False) is not None
    assert signature(function).problem((1, 2), {"ctx": CONTEXT}, check_types=False) is not None


def test_a_function_without_context_gets_none() -> None:
    def plain(ctx: int) -> int:
        return ctx

    assert placed(plain, 5) == 5


class Shop:
    class JobContext:
        """A class of the user's own."""


def with_own_class(a: Shop.JobContext) -> Shop.JobContext:
    return a


def test_another_class_of_the_same_name_is_no_context() -> None:
    own = Shop.JobContext()
    assert placed(with_own_class, own) is own


# Arity.


def two(a: int, b: str = "x") -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, "y"), {}), ((1,), {"b": "y"}), ((), {"a": 1})]
)
def test_arguments_that_fit_are_no_problem(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for check_types in (False, True):
        assert signature(two).problem(args, kwargs, check_types=check_types) is None


@pytest.mark.parametrize(
    ("args", "kwargs", "word"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, "x", 3), {}, "too many positional arguments"),
        ((1,), {"c": 1}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_the_parameters(
    args: tuple[Any, ...], kwargs: dict[str, Any], word: str
) -> None:
    for check_types in (False, True):
        problem = signature(two).problem(args, kwargs, check_types=check_types)
        assert problem is not None
        assert word in problem
        assert "(a: 'int', b: 'str' = 'x')" in problem


def test_undecorated_functions_values_are_not_touched() -> None:
    assert signature(two).problem((object(), object()), {}, check_types=False) is None


def test_a_builtin_that_tells_nothing_takes_anything() -> None:
    class Silent:
        __signature__ = "no signature"

        def __call__(self, *args: Any) -> None: ...

    assert signature(Silent()).problem((1, 2, 3), {}, check_types=True) is None
    assert signature(os.remove).problem(("a.txt",), {}, check_types=True) is None
    assert signature(os.remove).problem((), {}, check_types=False) is not None


# Types.


class Order(BaseModel):
    number: int


class Own:
    pass


def taking(annotation: Any) -> Callable[..., Any]:
    """Return a function with one parameter of this type."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": annotation}
    return function


def problem_of(annotation: Any, value: Any) -> str | None:
    return signature(taking(annotation)).problem((value,), {}, check_types=True)


FITS: list[tuple[Any, Any]] = [
    (int, 5),
    (list[str] | None, ["a"]),
    (list[str] | None, []),
    (list[str] | None, None),
    (Order, Order(number=1)),
    (list[Order], [Order(number=1)]),
    (dict[str, Order], {"a": Order(number=1)}),
    (dict[str, int], {"number": 1}),
    (Own, Own()),
    (Literal["a", "b"], "b"),
    (Annotated[int, Field(le=10)], 10),
    (UUID, UUID(int=1)),
    (Any, object()),
]
MISFITS: list[tuple[Any, Any]] = [
    (int, "5"),
    (int, 5.0),
    (int, None),
    (int, True),
    (list[str], ["a", 1]),
    (list[str], ("a",)),
    (list[str], "a"),
    (Order, {"number": 1}),
    (Order | None, {"number": 1}),
    (list[Order], [{"number": 1}]),
    (tuple[Order, ...], ({"number": 1},)),
    (dict[str, Order], {"a": {"number": 1}}),
    (Own, object()),
    (Literal["a", "b"], "c"),
    (Annotated[int, Field(le=10)], 11),
    (UUID, str(UUID(int=1))),
]


@pytest.mark.parametrize(("annotation", "value"), FITS)
def test_a_value_of_the_declared_type_is_no_problem(annotation: Any, value: Any) -> None:
    assert problem_of(annotation, value) is None


@pytest.mark.parametrize(("annotation", "value"), MISFITS)
def test_a_value_of_another_type_is_told_by_its_place_and_never_converted(
    annotation: Any, value: Any
) -> None:
    problem = problem_of(annotation, value)
    assert problem is not None
    assert problem.startswith("argument value")
    assert problem.endswith((f"got {type(value).__name__}", "an instance of Order, got dict"))


def test_the_place_inside_a_value_is_told_and_the_value_is_not() -> None:
    problem = problem_of(list[str], ["ok", 4711])
    assert problem is not None
    assert "argument value[1]" in problem
    assert "4711" not in problem


def test_a_parameter_without_annotation_takes_anything() -> None:
    def bare(value) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # people do

    assert signature(bare).problem((object(),), {}, check_types=True) is None


def test_variadic_arguments_are_taken_as_they_are() -> None:
    def many(*numbers: int, **names: str) -> None: ...

    assert signature(many).problem((1, "2"), {"a": 3}, check_types=True) is None


def test_annotations_that_cannot_be_resolved_are_told_with_the_remedy() -> None:
    def lost(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # the point

    assert signature(lost).problem((1,), {}, check_types=False) is None
    with pytest.raises(ConfigurationError, match=r"lost cannot be resolved.*TYPE_CHECKING"):
        signature(lost).problem((1,), {}, check_types=True)


def test_a_context_is_found_where_other_annotations_cannot_be_resolved() -> None:
    def lost(a: Missing, ctx: JobContext) -> tuple[Any, ...]:  # type: ignore[name-defined]  # noqa: F821
        return ctx, a

    assert placed(lost, 1) == (CONTEXT, 1)


def test_a_callable_object_s_types_are_checked() -> None:
    check = signature(CallableObject())
    assert check.problem((1, 2), {}, check_types=True) is None
    assert check.problem(("1", 2), {}, check_types=True) is not None
