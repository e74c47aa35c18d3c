"""A task: a plain function with a policy and a name, and how it is found again.

What lives here: `@task` and the `Catalogue`. What does not: names inside packages
(`test_references.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

import pytest

from embedded_tasks import task
from embedded_tasks.errors import (
    ArgumentsError,
    ConfigurationError,
    NotDurableError,
    UnknownTaskError,
)
from embedded_tasks.references import References
from embedded_tasks.task import Catalogue, is_async
from tests.support import tasks


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(References(modules=["tests"]))


# The decorator.


def test_a_decorated_function_stays_the_function_that_it_was() -> None:
    def plain(a: int) -> int:
        return a + 1

    before = inspect.signature(plain)
    assert task(plain) is plain
    assert task(max_attempts=3)(plain) is plain
    assert plain(1) == 2
    assert inspect.signature(plain) == before


def test_a_decorated_async_function_can_still_be_awaited() -> None:
    assert asyncio.run(tasks.send_receipt(1, "bob")) == "bob"


@pytest.mark.parametrize("bad", [{"name": ""}, {"name": "a\nb"}, {"aliases": ("",)}])
def test_a_name_that_cannot_be_one_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        task(**bad)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a function"):
        task(max_attempts=3)(5)  # type: ignore[arg-type]  # the point


class CallsAsync:
    async def __call__(self) -> None: ...


class CallsSync:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (tasks.note, True),
        (tasks.note_sync, False),
        (CallsAsync(), True),
        (CallsSync(), False),
        (CallsAsync().__call__, True),
        (functools.partial(tasks.note, 1), True),
        (os.remove, False),
        (print, False),
    ],
)
def test_async_is_decided_as_starlette_decides_it(function: object, wanted: bool) -> None:
    assert is_async(function) is wanted


# By function.


def test_an_undecorated_function_has_its_path_and_no_policy(catalogue: Catalogue) -> None:
    found, args, kwargs = catalogue.of(tasks.note, (1,), {"b": 2})
    assert (found.name, found.function) == ("tests.support.tasks:note", tasks.note)
    assert (found.decorated, found.is_async, found.policy.max_attempts) == (False, True, 1)
    assert (args, kwargs) == ((1,), {"b": 2})


def test_a_decorated_function_has_its_policy(catalogue: Catalogue) -> None:
    found, _, _ = catalogue.of(tasks.flaky, (), {})
    assert (found.name, found.decorated) == ("tests.support.tasks:flaky", True)
    assert found.policy.max_attempts == 3
    assert found.policy.backoff == (10.0, 20.0)


def test_a_given_name_is_the_stored_one(catalogue: Catalogue) -> None:
    found, _, _ = catalogue.of(tasks.send_receipt, (1,), {})
    assert (found.name, found.policy.queue) == ("shop.receipt", "mail")


def test_a_partial_is_its_function_and_all_its_arguments(catalogue: Catalogue) -> None:
    partial = functools.partial(tasks.note, 1, 2)
    found, args, _ = catalogue.of(partial, (3,), {})
    assert (found.name, args) == ("tests.support.tasks:note", (1, 2, 3))


def test_what_has_no_name_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(NotDurableError, match="lambda"):
        catalogue.of(lambda: None, (), {})
    with pytest.raises(TypeError, match="must be a function"):
        catalogue.of(None, (), {})


def test_arguments_are_checked_and_types_only_of_decorated_tasks(catalogue: Catalogue) -> None:
    plain, _, _ = catalogue.of(tasks.want_context, (), {})
    plain.check_arguments(("not a number",), {})
    with pytest.raises(ArgumentsError, match="want_context: missing a required argument"):
        plain.check_arguments((), {})
    decorated, _, _ = catalogue.of(tasks.typed, (), {})
    decorated.check_arguments((1, ["a"]), {})
    with pytest.raises(ArgumentsError, match=r"typed: argument number: .*got str"):
        decorated.check_arguments(("1", ["a"]), {})


# By name.


@pytest.mark.parametrize("name", ["tests.support.tasks:flaky", "shop.receipt", "shop.old_receipt"])
def test_a_task_is_found_by_path_by_name_and_by_alias(catalogue: Catalogue, name: str) -> None:
    found = catalogue.find(name)
    assert found.function in (tasks.flaky, tasks.send_receipt)
    assert catalogue.find(name) is found


def test_a_task_with_a_given_name_is_found_by_its_path_too(catalogue: Catalogue) -> None:
    # Its jobs may have been stored before it was given the name.
    assert catalogue.find("tests.support.tasks:send_receipt").function is tasks.send_receipt


@pytest.mark.parametrize(
    "name",
    ["shop.nothing", "tests.support.tasks:nothing", "nowhere:f", "subprocess:run", ":", "a:b:c"],
)
def test_a_name_that_this_code_does_not_have_is_unknown(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(UnknownTaskError):
        catalogue.find(name)
    assert catalogue.can_be_stopped(name) is None


def test_whether_a_task_can_be_stopped_is_told_by_name(catalogue: Catalogue) -> None:
    assert catalogue.can_be_stopped("tests.support.tasks:note") is True
    assert catalogue.can_be_stopped("tests.support.tasks:note_sync") is False
    assert catalogue.can_be_stopped("tests.crash.hang_tasks:in_child") is True


def test_an_async_function_in_a_child_process_takes_a_place_of_the_sync_ones(
    catalogue: Catalogue,
) -> None:
    assert not catalogue.find("tests.crash.hang_tasks:in_child_async").is_async


@pytest.fixture
def late_module() -> Iterator[ModuleType]:
    """A module that is not loaded yet, with a task in it."""
    module = module_from_spec(ModuleSpec("tests.support.late", None))
    code = "from embedded_tasks import task\n@task(name='shop.late')\ndef late(): ...\n"
    exec(code, vars(module))
    yield module
    sys.modules.pop(module.__name__, None)


def test_a_name_is_known_as_soon_as_its_module_is_loaded(
    catalogue: Catalogue, late_module: ModuleType
) -> None:
    with pytest.raises(UnknownTaskError, match="no loaded module"):
        catalogue.find("shop.late")
    sys.modules[late_module.__name__] = late_module
    assert catalogue.find("shop.late").function is late_module.late


def test_a_module_outside_the_known_packages_gives_no_names(
    late_module: ModuleType, catalogue: Catalogue
) -> None:
    late_module.late.__module__ = "elsewhere"
    sys.modules["elsewhere"] = late_module
    try:
        with pytest.raises(UnknownTaskError):
            catalogue.find("shop.late")
    finally:
        del sys.modules["elsewhere"]


def test_a_name_that_is_used_twice_is_refused(
    catalogue: Catalogue, late_module: ModuleType
) -> None:
    sys.modules[late_module.__name__] = late_module
    late_module.late.__embedded_task__ = tasks.send_receipt.__embedded_task__  # type: ignore[attr-defined]
    catalogue.of(tasks.send_receipt, (1,), {})
    with pytest.raises(
        ConfigurationError, match=r"'shop\.receipt' is used twice.*support.tasks.*late"
    ):
        catalogue.of(late_module.late, (1,), {})


def test_a_function_that_was_replaced_is_the_new_one(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "tests.support.tasks:note"
    assert catalogue.find(name).function is tasks.note
    monkeypatch.setattr(tasks, "note", tasks.flaky)
    assert catalogue.find(name).function is tasks.flaky
