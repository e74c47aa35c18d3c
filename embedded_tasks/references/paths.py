"""Names as text: what is a name, and following one from a module to what it leads to.

What lives here: parsing, walking, and the name of the program that runs as `__main__`. What does
not: which packages are known (`known`). Called by `known` and `calls`.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final

__all__ = [
    "MAIN",
    "LostError",
    "canonical",
    "is_dunder",
    "lost_elsewhere",
    "main_name",
    "member",
    "parse",
    "shown",
    "walk",
]

MAIN: Final = frozenset({"__main__", "__mp_main__"})
"""What the running program is called; the second in a child made by multiprocessing."""

_LONGEST_NAME: Final = 500


class LostError(Exception):
    """A name leads nowhere; the text says why."""


def main_name() -> str | None:
    """Return the name under which other processes import the program that runs here."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return None if spec.name in MAIN else str(spec.name)  # `python -m shop.main`
    return _module_of(getattr(main, "__file__", None) or "")


@functools.lru_cache(maxsize=8)  # asked for whenever a name is followed
def _module_of(file: str) -> str | None:
    path = PurePath(file)
    is_module = path.suffix == ".py" and "." not in path.stem and path.stem not in MAIN
    return path.stem if is_module else None


def canonical(module_name: str) -> str:
    """Return a module's name as other processes know it."""
    return (main_name() or module_name) if module_name in MAIN else module_name


def lost_elsewhere(module_name: str) -> str | None:
    """Return why another process cannot import a module, or None if it can."""
    name = canonical(module_name)
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if module_name in MAIN and (name in MAIN or not all(map(str.isidentifier, name.split(".")))):
        return "the program that defines it is no module that can be imported; put it into one"
    above = sys.modules.get(name.rpartition(".")[0])
    path = getattr(above, "__path__", None) if above is not None else None
    found = [spec for find in sys.meta_path if (spec := find.find_spec(name, path))][:1]
    if not found:
        return f"there is no file from which another process can import the module {name!r}"
    if module_name in MAIN and file and not _same_file(found[0].origin, file):
        return f"another process would import {found[0].origin} for it, which is another module"
    return None


def _same_file(origin: str | None, file: str) -> bool:
    return origin is not None and Path(origin).resolve() == Path(file).resolve()


def is_dunder(part: str) -> bool:
    """Tell whether a part of a name belongs to the language, such as `__class__`."""
    return part.startswith("__") and part.endswith("__")


def parse(name: str) -> tuple[str, list[str]]:
    """Split a name that may be untrusted into its module and the path inside it."""
    module_name, _, rest = name.partition(":")
    path = rest.split(".")
    parts = path[:-1] if len(path) > 1 and path[-1] == "__call__" else path
    if module_name != main_name():
        parts = [*module_name.removesuffix(".__main__").split("."), *parts]
    if len(name) > _LONGEST_NAME or not all(
        part.isidentifier() and not is_dunder(part) for part in parts
    ):
        raise LostError('it is not a name of the form "module:function"')
    return module_name, path


def walk(module: ModuleType, path: list[str]) -> object:
    """Follow a path through classes; an object may only be the first step, its method the last."""
    if path[0] not in vars(module):
        raise LostError(f"the module {module.__name__!r} has no {path[0]!r}")
    found = vars(module)[path[0]]
    if isinstance(found, ModuleType):
        raise LostError(f"{path[0]!r} is another module")
    for index, part in enumerate(path[1:], start=1):
        if index > 1 and not isinstance(found, type):
            raise LostError(f"{path[index - 1]!r} is not a class")
        found = member(found, part)
    return found


def member(owner: object, attribute: str) -> Any:
    """Return a method or nested class; nothing computed, and nothing of a metaclass."""
    kind = owner if isinstance(owner, type) else type(owner)
    raw = next((vars(base)[attribute] for base in kind.__mro__ if attribute in vars(base)), None)
    if isinstance(raw, property | functools.cached_property) or not (
        callable(raw) or hasattr(type(raw), "__get__")
    ):
        raise LostError(f"the class {kind.__qualname__!r} has no method or class {attribute!r}")
    try:
        return getattr(owner, attribute)
    except Exception as error:  # a descriptor may run any code
        raise LostError(f"reading {kind.__qualname__}.{attribute} failed: {error!r}") from error


def shown(name: str) -> str:
    """Return an untrusted name as it may stand in a message."""
    return name if len(name) <= _LONGEST_NAME and name.isprintable() else ascii(name[:100])
