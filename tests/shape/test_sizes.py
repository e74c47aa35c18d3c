"""The size fences of the house.

What lives here: how long files and functions may be, and how imports are written. What does not:
which module may import which (test_layers.py). Run by pytest; every rule is shown to bite.
"""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from tests.shape.tree import located, python_files

FILE_LINES = 400
TEST_FILE_LINES = 500
FUNCTION_LINES = 40
PARAMETERS = 7
SHAPELESS_NAMES = {"misc", "util", "utils"}

Function = ast.FunctionDef | ast.AsyncFunctionDef

FILES = pytest.mark.parametrize("path", python_files(), ids=located)


def long_file(where: str, source: str) -> list[str]:
    limit = TEST_FILE_LINES if where.startswith("tests/") else FILE_LINES
    lines = len(source.splitlines())
    return [f"{where}: {lines} lines, at most {limit}"] if lines > limit else []


def long_functions(source: str) -> list[str]:
    return [
        f"{function.lineno}: {function.name} has {lines} lines, at most {FUNCTION_LINES}"
        for function in _functions(source)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES
    ]


def wide_functions(source: str) -> list[str]:
    return [
        f"{function.lineno}: {function.name} takes {count}, at most {PARAMETERS}"
        for function in _functions(source)
        if (count := _count_parameters(function)) > PARAMETERS
    ]


def late_imports(source: str) -> list[str]:
    return [
        f"{node.lineno}: import inside {function.name}"
        for function in _functions(source)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def type_checking_imports(source: str) -> list[str]:
    return [
        f"{node.lineno}: TYPE_CHECKING"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]


def shapeless_name(where: str) -> list[str]:
    names = {part.removesuffix(".py") for part in Path(where).parts}
    return [f"{where}: say what lives there"] if names & SHAPELESS_NAMES else []


def may_import_late(where: str) -> bool:
    return where.startswith("embedded_tasks/extras/") or where == "embedded_tasks/cli.py"


def _functions(source: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]


def _count_parameters(function: Function) -> int:
    spec = function.args
    names = [arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    own = 1 if names and names[0] in {"self", "cls"} else 0
    return len(names) - own + (spec.vararg is not None) + (spec.kwarg is not None)


@FILES
def test_files_are_short(path: Path) -> None:
    assert long_file(located(path), path.read_text()) == []


@FILES
def test_functions_are_short(path: Path) -> None:
    assert long_functions(path.read_text()) == []


@FILES
def test_functions_take_few_parameters(path: Path) -> None:
    assert wide_functions(path.read_text()) == []


@FILES
def test_imports_are_at_the_top(path: Path) -> None:
    if not may_import_late(located(path)):
        assert late_imports(path.read_text()) == []


@FILES
def test_types_are_imported_as_at_run_time(path: Path) -> None:
    assert type_checking_imports(path.read_text()) == []


@FILES
def test_modules_are_named_after_what_lives_there(path: Path) -> None:
    assert shapeless_name(located(path)) == []


def test_the_length_of_a_file_is_noticed() -> None:
    assert long_file("embedded_tasks/a.py", "x\n" * 401)
    assert long_file("tests/a.py", "x\n" * 501)
    assert not long_file("embedded_tasks/a.py", "x\n" * 400)
    assert not long_file("tests/a.py", "x\n" * 500)


@pytest.mark.parametrize("head", ["def f():", "async def f():", "class C:\n  def f(self):"])
def test_the_length_of_a_function_is_noticed(head: str) -> None:
    assert long_functions(head + "\n    pass" * 40)
    assert not long_functions(head + "\n    pass" * 39)


@pytest.mark.parametrize(
    "signature",
    [
        "def f(a, b, c, d, e, f, g, h): ...",
        "def f(a, b, /, c, d, *, e, f, g, h): ...",
        "async def f(self, a, b, c, d, e, f, *args, **kwargs): ...",
    ],
)
def test_an_eighth_parameter_is_noticed(signature: str) -> None:
    assert wide_functions(signature)


def test_seven_parameters_beside_self_are_fine() -> None:
    assert not wide_functions("def f(self, a, b, c, d, e, *args, **kwargs): ...")


def test_an_import_inside_a_function_is_noticed() -> None:
    assert late_imports("class C:\n  def f(self):\n    if 1:\n      from a import b")
    assert late_imports("def f():\n  import a")
    assert not late_imports("import a\ntry:\n  import b\nexcept ImportError: ...")
    assert may_import_late("embedded_tasks/extras/celery.py")
    assert may_import_late("embedded_tasks/cli.py")
    assert not may_import_late("embedded_tasks/store/cli.py")


@pytest.mark.parametrize(
    "condition", ["TYPE_CHECKING", "typing.TYPE_CHECKING", "not t.TYPE_CHECKING"]
)
def test_an_import_for_type_checkers_only_is_noticed(condition: str) -> None:
    assert type_checking_imports(
        dedent(f"""
        if {condition}:
            import a
        """)
    )
    assert not type_checking_imports("x = 'TYPE_CHECKING'")


def test_a_name_that_says_nothing_is_noticed() -> None:
    assert shapeless_name("embedded_tasks/utils.py")
    assert shapeless_name("embedded_tasks/store/util/paths.py")
    assert not shapeless_name("embedded_tasks/store/utilisation.py")
