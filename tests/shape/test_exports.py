"""What each module says is public.

What lives here: `__all__` is there, sorted, complete and true, and the front is small. What does
not: whether the public names have types (the type checkers tell). Run by pytest.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.shape.tree import PACKAGE, located, package_files

FRONT_NAMES = 20
TYPE_VARIABLES = {"ParamSpec", "TypeVar", "TypeVarTuple"}

FILES = pytest.mark.parametrize("path", package_files(), ids=located)


def faults_of_exports(source: str) -> list[str]:
    module = ast.parse(source)
    exported = _exported(module)
    if exported is None:
        return ["there is no __all__, or it is no plain list of strings"]
    defined, imported = _defined(module), _imported(module)
    faults = [f"{name} is public but not in __all__" for name in sorted(defined - set(exported))]
    faults += [
        f"{name} is in __all__ but not here" for name in exported if name not in defined | imported
    ]
    if exported != sorted(set(exported), key=_order):
        faults.append(f"__all__ is not sorted, or repeats itself: {exported}")
    return faults


def crowded_front(source: str) -> list[str]:
    exported = _exported(ast.parse(source)) or []
    return [f"{len(exported)} names, at most {FRONT_NAMES}"] if len(exported) > FRONT_NAMES else []


def imports_of_the_front(source: str, rooms: set[str]) -> list[str]:
    """Imports of public names from the package itself; they go around the layers."""
    return [
        f"{node.lineno}: from embedded_tasks import {alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "embedded_tasks"
        for alias in node.names
        if alias.name not in rooms
    ]


def _order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, each by the alphabet: the linter's order."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def _exported(module: ast.Module) -> list[str] | None:
    for node in module.body:
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in _targets(node)):
            continue
        items = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [None]
        names = [item.value for item in items if isinstance(item, ast.Constant)]
        texts = [name for name in names if isinstance(name, str)]
        return texts if len(texts) == len(items) else None
    return None


def _defined(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not _is_type_variable(node.value):
            names.update(_targets(node))
        elif name := getattr(node, "name", None):  # `type X = ...`, since Python 3.12
            names.add(name.id)
    return {name for name in names if not name.startswith("_")}


def _is_type_variable(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in TYPE_VARIABLES


def _imported(module: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in module.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {
        name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
    }


@FILES
def test_every_module_says_what_is_public(path: Path) -> None:
    assert faults_of_exports(path.read_text()) == []


def test_the_front_is_small() -> None:
    assert crowded_front((PACKAGE / "__init__.py").read_text()) == []


@FILES
def test_the_rooms_do_not_import_the_front(path: Path) -> None:
    rooms = {room.stem for room in PACKAGE.iterdir()}
    assert imports_of_the_front(path.read_text(), rooms) == []


@pytest.mark.parametrize(
    "source",
    [
        "",
        "__all__ = [name for name in dir()]",
        "__all__ = []\nclass C: ...",
        "__all__ = []\nasync def f(): ...",
        "__all__ = []\nLIMIT: int = 1",
        "__all__ = []\na = b = 1",
        "__all__ = ['gone']",
        "__all__ = ['B', 'A']\nA = B = 1",
        "__all__ = ['f', 'C']\nclass C: ...\ndef f(): ...",
        "__all__ = ['A', 'A']\nA = 1",
    ],
)
def test_a_fault_in_the_public_names_is_noticed(source: str) -> None:
    assert faults_of_exports(source)


@pytest.mark.parametrize(
    "source",
    [
        "__all__: list[str] = []",
        "from a import B\n__all__ = ['B']",
        "from a import B as C\n__all__ = ['C']",
        "from a import B\n__all__ = ['LIMIT', 'A', 'f']\nLIMIT = 1\nclass A: ...\ndef f(): ...",
        "__all__ = []\n_private = 1\ndef _f(): ...",
        "__all__ = []\nP = ParamSpec('P')",
    ],
)
def test_public_names_in_order_are_fine(source: str) -> None:
    assert faults_of_exports(source) == []


def test_a_crowded_front_is_noticed() -> None:
    assert crowded_front(f"__all__ = {[f'n{i}' for i in range(21)]}")
    assert not crowded_front(f"__all__ = {[f'n{i}' for i in range(20)]}")


def test_an_import_of_the_front_is_noticed() -> None:
    assert imports_of_the_front("from embedded_tasks import TaskRunner", {"clock"})
    assert not imports_of_the_front("from embedded_tasks import clock", {"clock"})
    assert not imports_of_the_front("from embedded_tasks.clock import Clock", {"clock"})
