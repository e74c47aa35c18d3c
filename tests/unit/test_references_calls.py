"""What `target_of` promises: resolving the name and calling it is the same call again.

What lives here: partials, methods, callable objects, and what is no function. What does not: the
names themselves (`test_references.py`). Called by pytest.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import pytest

from embedded_tasks.errors import NotDurableError
from embedded_tasks.references import References, Target

HERE = __name__
calls: list[object] = []


def record(*args: object, **kwargs: object) -> tuple[object, ...]:
    return (record, args, kwargs)


class Base:
    @classmethod
    def make(cls, *args: object) -> tuple[object, ...]:
        return (cls, args)

    @staticmethod
    def static(*args: object) -> tuple[object, ...]:
        return (Base, args)

    def inherited(self, *args: object) -> tuple[object, ...]:
        return (self, "inherited", args)


class Child(Base):
    pass


def careless(func: Callable[..., object]) -> Callable[..., object]:
    def inner(self: object) -> object:
        return func(self)

    return inner


@dataclass
class Sender(Base):
    name: str

    def send(self, *args: object, **kwargs: object) -> tuple[object, ...]:
        return (self, "send", args, kwargs)

    def __call__(self, *args: object) -> tuple[object, ...]:
        return (self, args)

    @careless
    def odd(self) -> None: ...

    @functools.cache  # noqa: B019 - any wrapper will do
    def cached(self) -> str:
        return self.name

    __hash__ = object.__hash__


class AsyncService:
    async def __call__(self) -> str:
        return "called"


sender = Sender("global")
service = AsyncService()
mock = Mock()
generator = random.Random(0)


@functools.cache
def cached() -> int:
    return 1


@pytest.fixture
def references() -> References:
    return References([HERE])


@pytest.mark.parametrize(
    ("func", "name", "args"),
    [
        (record, "record", (1,)),
        (Base.make, "Base.make", (1,)),
        (Child.make, "Child.make", (1,)),
        (Base.static, "Base.static", (1,)),
        (Sender("x").static, "Base.static", (1,)),
        (Sender.send, "Sender.send", (1,)),
        (Sender, "Sender", (1,)),
        (sender.send, "sender.send", (1,)),
        (sender.inherited, "sender.inherited", (1,)),
        (sender, "sender", (1,)),
        (sender.__call__, "sender", (1,)),
        (Sender("x").send, "Sender.send", (Sender("x"), 1)),
        (Sender("x").inherited, "Sender.inherited", (Sender("x"), 1)),
        (Sender("x"), "Sender.__call__", (Sender("x"), 1)),
        (Sender("x").__call__, "Sender.__call__", (Sender("x"), 1)),
        (functools.partial(record), "record", (1,)),
        (functools.partial(sender.send), "sender.send", (1,)),
        (functools.partial(Sender("x").send, 0), "Sender.send", (Sender("x"), 0, 1)),
    ],
)
def test_replaying_the_target_is_the_same_call(
    references: References, func: Callable[..., object], name: str, args: tuple[object, ...]
) -> None:
    target = references.target_of(func, (1,), {})
    assert target == Target(f"{HERE}:{name}", args, {})
    assert references.resolve(target.name)(*target.args, **target.kwargs) == func(1)


def test_partials_are_merged_as_python_merges_them(references: References) -> None:
    inner = functools.partial(record, 1, a=1, b=1)
    func = functools.partial(functools.partial(inner, 2, b=2, c=2), 3)
    target = references.target_of(func, (4,), {"c": 4})
    assert target == Target(f"{HERE}:record", (1, 2, 3, 4), {"a": 1, "b": 2, "c": 4})
    assert record(*target.args, **target.kwargs) == func(4, c=4)


@pytest.mark.skipif(not hasattr(functools, "Placeholder"), reason="Python 3.14 has placeholders")
def test_placeholders_of_a_partial_are_filled(references: References) -> None:
    hole = functools.Placeholder  # type: ignore[attr-defined]
    target = references.target_of(functools.partial(record, hole, 2), (1, 3), {})
    assert target.args == (1, 2, 3)


def test_a_keyword_dict_is_copied_not_shared(references: References) -> None:
    kwargs = {"a": 1}
    assert references.target_of(record, (), kwargs).kwargs is not kwargs


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (mock, "mock"),
        (service, "service"),
        (calls.append, "calls.append"),
        (generator.seed, "generator.seed"),
        (cached.cache_clear, "cached.cache_clear"),
        (sender.cached, "sender.cached"),
    ],
)
def test_any_global_object_of_a_known_module_can_be_named(
    references: References, func: Callable[..., object], name: str
) -> None:
    target = references.target_of(func, (), {})
    assert target.name == f"{HERE}:{name}"
    assert references.resolve(target.name) == func


def local_sender() -> Callable[..., object]:
    class Local:
        def send(self) -> None: ...

    return Local().send


@pytest.mark.parametrize(
    ("func", "where", "reason"),
    [
        (lambda: None, "<lambda>", "a lambda has no name"),
        (functools.partial(lambda: None), "<lambda>", "a lambda has no name"),
        (local_sender(), "Local.send", "its class has no name (it is defined inside local_sender"),
        (random.Random(0).seed, "Random.seed", "not a module-level variable of a known package"),
        (Mock(), "Mock.__call__", "not a module-level variable of a known package"),
        (sender.odd, "Sender.inner", "another attribute of this name, or none"),
        ([].append, "list.append", "a replay would change a copy of it"),
        ("abc".upper, "str.upper", "a replay would change a copy of it"),
        (str.upper, "method_descriptor", "not a module-level variable"),
    ],
)
def test_a_call_that_has_no_name_is_refused_with_the_reason(
    references: References, func: Callable[..., object], where: str, reason: str
) -> None:
    with pytest.raises(NotDurableError) as caught:
        references.target_of(func, (), {})
    assert where in caught.value.where
    assert reason in caught.value.reason
    assert caught.value.remedy


@pytest.mark.parametrize("other", [Child().inherited, Sender("y").send])
def test_a_method_replaced_on_the_object_is_not_taken_for_the_class_s(
    references: References, other: Callable[..., Any]
) -> None:
    changed = Sender("x")
    bound = changed.send
    changed.send = other  # type: ignore[method-assign]
    with pytest.raises(NotDurableError, match="another attribute of this name"):
        references.target_of(bound, (), {})


def test_a_method_replaced_on_the_class_is_not_taken_for_the_old_one(
    references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = sender.send
    monkeypatch.setattr(Sender, "send", Base.inherited)
    with pytest.raises(NotDurableError, match="another attribute of this name"):
        references.target_of(bound, (), {})


async def coroutine_function() -> None: ...


def test_a_coroutine_is_told_to_leave_out_the_brackets(references: References) -> None:
    coroutine = coroutine_function()
    with pytest.raises(
        TypeError, match=r"add_task\(coroutine_function, ...\) without the brackets"
    ):
        references.target_of(coroutine, (), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(("func", "what"), [(None, "None"), ("send", "class str")])
def test_what_is_no_function_can_never_be_a_task(
    references: References, func: object, what: str
) -> None:
    with pytest.raises(TypeError, match=what) as caught:
        references.target_of(func, (), {})  # type: ignore[arg-type]
    assert not isinstance(caught.value, NotDurableError)
    assert "without the brackets" in str(caught.value)
