"""What the names of functions promise: the same object, known packages only, precise refusals.

What lives here: names, resolving and known packages. What does not: how calls are taken apart
(`test_references_calls.py`). Called by pytest.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from subprocess import run as imported_run  # noqa: F401 - what a hostile name tries to reach
from types import ModuleType
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

from embedded_tasks.errors import ConfigurationError, NotDurableError, UnknownTaskError
from embedded_tasks.references import References

Item = TypeVar("Item")
HERE = __name__


def plain() -> None: ...


async def coroutine_function() -> None: ...


def logged(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return inner


@logged
def wrapped() -> None: ...


def unwrapped_decorator(func: Callable[..., Any]) -> Callable[..., Any]:
    def inner() -> Any:
        return func()

    return inner


@unwrapped_decorator
def carelessly_decorated() -> None: ...


@functools.lru_cache
def cached() -> int:
    return 1


def _reused() -> Callable[[], None]:
    def reused() -> None: ...

    reused.__qualname__ = "reused"
    return reused


first_reused = _reused()
reused = _reused()


class Outer:
    class Inner:
        def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    @property
    def computed(self) -> Callable[[], None]:
        return plain


class Box(BaseModel, Generic[Item]):
    item: Item


class Service:
    def work(self) -> None: ...

    @property
    def computed(self) -> Callable[[], None]:
        return plain


class Button:
    def __call__(self) -> None: ...

    def press(self) -> None: ...


class Holder:
    button = Button()


service = Service()
number = 7
nameless = lambda: None  # noqa: E731 - the subject of a test


@pytest.fixture
def references() -> References:
    return References([HERE])


@pytest.fixture
def module_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write modules to a folder on the path; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (plain, "plain"),
        (coroutine_function, "coroutine_function"),
        (wrapped, "wrapped"),
        (cached, "cached"),
        (Outer, "Outer"),
        (Outer.Inner, "Outer.Inner"),
        (Outer.Inner.method, "Outer.Inner.method"),
        (Outer.static, "Outer.static"),
    ],
)
def test_a_name_leads_back_to_the_same_object(references: References, obj: Any, path: str) -> None:
    for _ in range(2):  # the second time from the cache
        assert references.name_of(obj) == f"{HERE}:{path}"
    assert references.resolve(f"{HERE}:{path}") is obj


@pytest.mark.parametrize(
    ("obj", "name"),
    [
        (os.remove, "posix:remove"),
        (os.unlink, "posix:unlink"),
        (os.rmdir, "posix:rmdir"),
        (shutil.rmtree, "shutil:rmtree"),
        (shutil.move, "shutil:move"),
        (shutil.copyfile, "shutil:copyfile"),
        (print, "builtins:print"),
        (list, "builtins:list"),
    ],
)
def test_a_few_standard_functions_are_known_without_any_package(obj: Any, name: str) -> None:
    references = References()
    assert references.name_of(obj) == name
    assert references.resolve(name) is obj
    assert references.knows(name)
    assert not references.knows(name.partition(":")[0])


def local_function() -> Callable[[], None]:
    def local() -> None: ...

    return local


@pytest.mark.parametrize(
    ("obj", "where", "reason"),
    [
        (nameless, f"{HERE}.<lambda>", "a lambda has no name"),
        (local_function(), "local_function.<locals>.local", "defined inside local_function()"),
        (carelessly_decorated, "unwrapped_decorator.<locals>", "defined inside unwrapped_decor"),
        (wrapped.__wrapped__, f"{HERE}.wrapped", "leads to a decorated function"),  # type: ignore[attr-defined]
        (first_reused, f"{HERE}.reused", "leads to another object"),
        (Box[int], f"{HERE}.Box[int]", "a generic class with parameters"),
        (list[int], "builtins.list", "a generic class with parameters"),
        (os.system, "posix.system", "'posix' is not in a package that the app's routes come from"),
        (shutil.make_archive, "shutil.make_archive", "'shutil' is not in a package"),
        (7, "class int", "no function or class"),
        (str.upper, "class method_descriptor", "no function or class"),
    ],
)
def test_what_has_no_name_is_refused_with_the_reason(
    references: References, obj: Any, where: str, reason: str
) -> None:
    with pytest.raises(NotDurableError) as caught:
        references.name_of(obj)
    assert where in caught.value.where
    assert reason in caught.value.reason
    assert caught.value.remedy


def test_a_function_from_elsewhere_is_told_of_modules() -> None:
    with pytest.raises(NotDurableError, match=r'modules=\["json"\]'):
        References([HERE]).name_of(importlib.import_module("json").dumps)


def test_a_function_of_a_module_that_is_in_no_file_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("made_up")
    exec("def f(): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "made_up", module)
    with pytest.raises(NotDurableError, match="made at run time"):
        References(modules=["made_up"]).name_of(module.f)


def test_what_another_process_would_not_find_is_refused_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    references = References([HERE])
    references.check_elsewhere(os.remove, "it")
    references.check_elsewhere(References, "it")
    module = ModuleType("made_up")
    exec("def f(): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "made_up", module)
    with pytest.raises(ConfigurationError, match=r"it: there is no file .* 'made_up'"):
        references.check_elsewhere(module.f, "it")


def test_a_package_is_known_as_a_whole_and_a_module_only_with_what_is_below_it() -> None:
    references = References(["shop.routes.users"], modules=["lib.tasks"])
    assert references.knows("shop")
    assert references.knows("shop.mail.send")
    assert not references.knows("shopping")
    assert references.knows("lib.tasks")
    assert references.knows("lib.tasks.mail")
    assert not references.knows("lib")
    assert not references.knows("lib.tasks2")


@pytest.mark.parametrize("module", ["os", "json.decoder", "fastapi.applications", "starlette"])
def test_a_route_of_the_framework_makes_no_package_known(module: str) -> None:
    references = References([module])
    assert not references.knows(module)
    assert References(modules=[module]).knows(module)


@pytest.mark.parametrize("entry", ["", "a b", "a..b", "a:b", "a/b"])
def test_what_is_no_module_name_is_refused_as_a_package(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a module"):
        References(modules=[entry])


def test_a_single_string_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"\['shop'\]"):
        References(modules="shop")


@pytest.mark.parametrize(
    "path",
    [
        "__class__.__mro__",
        "plain.__globals__",
        "Outer.__subclasses__",
        "Outer.mro",
        "Outer.Inner.method.__func__",
        "Outer.computed",
        "service.computed",
        "Holder.button.press",
        "service.__class__",
        "service.work.__func__",
        "service.missing",
        "os.system",
        "os",
        "imported_run",
        "imported_run.__call__",
        "sys.modules",
        "number",
        "number.bit_length.x",
        "missing",
        "",
        ".",
        "plain.",
        "plain\x00",
        "pla in",
        "plain()",
        "x" * 10_000,
    ],
)
def test_a_hostile_path_in_a_known_module_is_refused(references: References, path: str) -> None:
    with pytest.raises(UnknownTaskError):
        references.resolve(f"{HERE}:{path}")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "posix:system",
        "subprocess:run",
        "builtins:eval",
        "builtins:print.__class__",
        "a..b:c",
        "",
        ":",
        "plain",
        "\x00:f",
        "../etc:f",
        f"{HERE}.__init__:plain",
        f"{HERE}:plain:plain",
        f"{HERE}\ud800:f",
    ],
)
def test_a_hostile_name_is_refused_and_nothing_is_imported(
    references: References, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []
    monkeypatch.setattr(importlib, "import_module", imported.append)
    with pytest.raises(UnknownTaskError) as caught:
        references.resolve(name)
    assert imported == []
    assert str(caught.value).isprintable()


def test_a_known_module_is_imported_when_a_name_asks_for_it(
    module_file: Callable[..., None],
) -> None:
    module_file("shop_a/mail", "def send(): return 'sent'")
    send = References(["shop_a"]).resolve("shop_a.mail:send")
    assert send() == "sent"


def test_a_function_that_moved_is_found_where_it_was_if_the_old_module_imports_it(
    module_file: Callable[..., None],
) -> None:
    module_file("shop_b/mail", "def send(): ...")
    module_file("shop_b/old", "from shop_b.mail import send")
    references = References(["shop_b"])
    assert references.resolve("shop_b.old:send") is references.resolve("shop_b.mail:send")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shop_c.gone:send", "there is no module 'shop_c.gone'"),
        ("shop_c.mail:gone", "the module 'shop_c.mail' has no 'gone'"),
        ("shop_c.broken:f", "importing 'shop_c.broken' failed: ZeroDivisionError"),
        ("shop_c.lacking:f", "importing 'shop_c.lacking' failed: No module named 'not_there'"),
        ("shop_c.exits:f", "importing 'shop_c.exits' failed: SystemExit"),
        ("shop_c.__main__:f", "importing 'shop_c.__main__' would start that program"),
        ("other.mail:f", "'other.mail' is not in a package"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(
    module_file: Callable[..., None], name: str, reason: str
) -> None:
    module_file("shop_c/mail", "def send(): ...")
    module_file("shop_c/broken", "1 / 0")
    module_file("shop_c/lacking", "import not_there")
    module_file("shop_c/exits", "raise SystemExit(1)")
    module_file("shop_c/__main__", "raise AssertionError")
    with pytest.raises(UnknownTaskError) as caught:
        References(["shop_c"]).resolve(name)
    assert caught.value.task == name
    assert reason in caught.value.reason


def test_the_cached_name_is_right_after_the_name_was_bound_again(
    module_file: Callable[..., None],
) -> None:
    module_file("shop_d", "def send(): ...")
    references = References(["shop_d"])
    send = references.resolve("shop_d:send")
    assert references.name_of(send) == "shop_d:send"
    importlib.reload(sys.modules["shop_d"])
    with pytest.raises(NotDurableError, match="leads to another object"):
        references.name_of(send)
    assert references.name_of(references.resolve("shop_d:send")) == "shop_d:send"


def test_an_object_is_found_as_a_variable_of_its_class_module_or_of_another_known_one(
    module_file: Callable[..., None], references: References
) -> None:
    module_file("shop_e/lib", "class Mailer: ...")
    module_file("shop_e/app", "from shop_e.lib import Mailer\nmailer = Mailer()")
    shop = References(["shop_e"])
    mailer = importlib.import_module("shop_e.app").mailer
    for _ in range(2):
        assert shop.global_name_of(mailer) == "shop_e.app:mailer"
        assert references.global_name_of(service) == f"{HERE}:service"
    delattr(sys.modules["shop_e.app"], "mailer")
    assert shop.global_name_of(mailer) is None
    assert references.global_name_of(mailer) is None
    assert references.global_name_of(Service()) is None
    assert references.global_name_of(number) is None


class TestTheRunningProgram:
    """`python main.py` and `python -m shop.main`: `__main__` has the name others import it by."""

    @pytest.fixture
    def program(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        module = ModuleType("__main__")
        module.__file__ = "/srv/app/shop_main.py"
        exec("def send(): ...", module.__dict__)
        monkeypatch.setitem(sys.modules, "__main__", module)
        return module

    def test_a_program_run_as_a_file_has_its_stem_as_name(self, program: ModuleType) -> None:
        references = References(["__main__"])
        assert references.knows("__main__")
        assert references.knows("shop_main")
        for _ in range(2):
            assert references.name_of(program.send) == "shop_main:send"
        assert references.resolve("shop_main:send") is program.send
        assert "shop_main" not in sys.modules

    def test_a_program_run_by_module_name_has_that_name(self, program: ModuleType) -> None:
        program.__spec__ = ModuleSpec("shop.main", None)
        references = References(["__main__"])
        assert references.name_of(program.send) == "shop.main:send"
        assert references.resolve("shop.main:send") is program.send
        assert references.knows("shop.other")

    def test_another_process_finds_it_only_where_its_file_can_be_imported(
        self, program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        references = References(["__main__"])
        with pytest.raises(ConfigurationError, match=r"no file .* 'shop_main'"):
            references.check_elsewhere(program.send, "it")
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "shop_main.py").touch()
        with pytest.raises(ConfigurationError, match="which is another module"):
            references.check_elsewhere(program.send, "it")
        program.__file__ = str(tmp_path / "shop_main.py")
        references.check_elsewhere(program.send, "it")
        program.__file__ = "/usr/bin/uvicorn"
        with pytest.raises(ConfigurationError, match="put it into one"):
            references.check_elsewhere(program.send, "it")

    def test_a_child_of_multiprocessing_has_the_same_names(self, program: ModuleType) -> None:
        program.send.__module__ = "__mp_main__"
        assert References(["__mp_main__"]).name_of(program.send) == "shop_main:send"

    @pytest.mark.parametrize("file", [None, "/usr/bin/uvicorn", "/a/my.app.py", "/a/__main__.py"])
    def test_a_program_that_is_no_module_has_no_names(
        self, program: ModuleType, file: str | None
    ) -> None:
        program.__file__ = file
        with pytest.raises(NotDurableError, match="runs from no"):
            References(["__main__"]).name_of(program.send)

    def test_of_a_program_that_exists_twice_the_app_s_own_copy_counts(
        self, program: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = ModuleType("shop_main")
        copy.__spec__ = ModuleSpec("shop_main", None)
        exec("def send(): ...", copy.__dict__)
        by_file = References(["__main__"])
        assert by_file.name_of(program.send) == "shop_main:send"
        monkeypatch.setitem(sys.modules, "shop_main", copy)
        assert by_file.name_of(program.send) == "shop_main:send"
        assert by_file.resolve("shop_main:send") is program.send

        by_name = References(["shop_main"])
        assert by_name.name_of(copy.send) == "shop_main:send"
        assert by_name.resolve("shop_main:send") is copy.send
        with pytest.raises(NotDurableError, match="was imported by its name too"):
            by_name.name_of(program.send)
