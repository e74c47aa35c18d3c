"""The known packages of one runner, and the names inside them.

What lives here: `References`. What does not: how a name is written and followed (`paths`), and how
a call is taken apart (`calls`). Built by the runner; used by the actions and `payload`.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any, Final

from embedded_tasks.errors import ConfigurationError, NotDurableError, UnknownTaskError
from embedded_tasks.references.calls import Target, target_of
from embedded_tasks.references.paths import (
    MAIN,
    LostError,
    canonical,
    is_dunder,
    lost_elsewhere,
    main_name,
    parse,
    shown,
    walk,
)
from embedded_tasks.references.refusals import (
    AT_THE_TOP,
    name_it,
    refuse_local,
    refuse_shadowed,
    unknown,
)

__all__ = ["STANDARD", "References"]

STANDARD: Final[Mapping[str, object]] = MappingProxyType(
    {
        # What people give to `add_task` from the standard library: cleaning up files.
        "posix:remove": os.remove,
        "posix:rmdir": os.rmdir,
        "posix:unlink": os.unlink,
        "shutil:copyfile": shutil.copyfile,
        "shutil:move": shutil.move,
        "shutil:rmtree": shutil.rmtree,
        "builtins:print": print,
        # Plain types: what a `defaultdict` is made with.
        **{
            f"builtins:{kind.__name__}": kind
            for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
        },
    }
)
"""Names that are known without being in a known package."""

_STANDARD_NAMES: Final = {id(found): name for name, found in STANDARD.items()}
# Routes of these (/docs, our own admin routes) do not make the whole package callable by name.
_NEVER_ADDED: Final = sys.stdlib_module_names | {
    *("embedded_tasks", "fastapi", "pydantic", "pydantic_core", "starlette", "uvicorn")
}
_LARGEST_CACHE: Final = 4096
# Equal values of these may be one object by chance.
_SHARED: Final = frozenset({bool, bytes, complex, float, frozenset, int, str, tuple, NoneType})
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType, type)


class References:
    """The known packages of one runner, and the names inside them.

    Args:
        packages: Modules of the app; the root package of each is known as a whole.
        modules: Further modules or packages by their full dotted name; each is known with all
            that is below it, and nothing beside it.

    Raises:
        ConfigurationError: An entry is not the name of a module.

    Example:
        references = References(["shop.main"])
        name = references.name_of(shop.mail.send)  # "shop.mail:send"
        references.resolve(name) is shop.mail.send
    """

    def __init__(self, packages: Iterable[str] = (), *, modules: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._main_is_app = False
        # Only hints, checked at each use; so an id that is used again does no harm.
        self._names: dict[int, tuple[str, str, str]] = {}
        self._globals: dict[int, tuple[str, str]] = {}
        self._resolved: dict[str, tuple[str, str, object]] = {}
        for entries, add in ((packages, self.add_package), (modules, self._add_module)):
            if isinstance(entries, str):
                raise ConfigurationError(f"Write a list of module names: [{entries!r}].")
            for entry in entries:
                add(entry)

    def add_package(self, module_name: str) -> None:
        """Make the root package of one of the app's modules known.

        The standard library, the web framework and this package are passed over.

        Args:
            module_name: A module's `__name__`; `__main__` stands for the module that it runs.

        Raises:
            ConfigurationError: It is not the name of a module.
        """
        if module_name in MAIN:
            self._main_is_app = True
            self._names.clear()
            self._resolved.clear()
        name = canonical(module_name)
        root = name.partition(".")[0]
        if name not in MAIN and root not in _NEVER_ADDED:
            self._add_module(root)

    def knows(self, module_name: str) -> bool:
        """Tell whether a module is inside a known package.

        Args:
            module_name: A module's dotted name, or a full name such as "posix:remove", which may
                also be one of the standard functions.
        """
        module, _, path = canonical(module_name).partition(":")
        if path and f"{module}:{path}" in STANDARD:
            return True
        while module:
            if module in self._known:
                return True
            module = module.rpartition(".")[0]
        return False

    def name_of(self, obj: object) -> str:
        """Return the name of a function or class, if that name leads back to the same object.

        Args:
            obj: A function, a class or a builtin function.

        Returns:
            "module:qualname", such as "shop.mail:send" or "shop.models:Order.close".

        Raises:
            NotDurableError: It has no such name; the error says why and what to write instead.
        """
        hint = self._names.get(id(obj))
        if hint is not None:
            place, attribute, name = hint
            module = sys.modules.get(place)
            if module is not None and module.__dict__.get(attribute) is obj:
                return name
        name = _STANDARD_NAMES.get(id(obj), "")
        return name or self._find_name(obj)

    def global_name_of(self, instance: object) -> str | None:
        """Return the name of a module-level variable of a known package that is this object.

        Args:
            instance: Any object; it is looked for by identity, in modules that are imported.

        Returns:
            "module:variable", or None where there is none.
        """
        if type(instance) in _SHARED:
            return None
        hint = self._globals.get(id(instance))
        home = type(instance).__module__
        first = [hint[0]] if hint else []
        for place in (*first, "__main__" if home in MAIN else home, *list(sys.modules)):
            module = sys.modules.get(place)
            name = canonical(place)
            if module is None or not self.knows(name) or self._loaded(name) is not module:
                continue
            for attribute, value in list(vars(module).items()):
                if value is instance and attribute.isidentifier() and not is_dunder(attribute):
                    _remember(self._globals, id(instance), (place, attribute))
                    return f"{name}:{attribute}"
        return None

    def resolve(self, name: str) -> Any:
        """Return the function, class or bound method that a stored name leads to.

        Args:
            name: A name made by `name_of` or `target_of`; it may be untrusted text.

        Raises:
            UnknownTaskError: It is not a name, is not in a known package, or leads nowhere now.
        """
        found = STANDARD.get(name) or self._resolved_before(name)
        if found is not None:
            return found
        try:
            module_name, path = parse(name)
            if not self.knows(module_name):
                raise LostError(f"{unknown(module_name)}. {name_it(module_name)}")
            module = self._import(module_name)
            self._check_home(vars(module).get(path[0]))
            found = walk(module, path)
            if not callable(found):
                raise LostError("it is not a function or class")
        except LostError as error:
            raise UnknownTaskError(shown(name), str(error)) from error
        if len(path) == 1:
            _remember(self._resolved, name, (module_name, path[0], found))
        return found

    def known(self) -> list[str]:
        """Return the known packages, for another process; it finds the same names in them."""
        return sorted(name for name in self._known if all(map(str.isidentifier, name.split("."))))

    def check_elsewhere(self, func: object, what: str) -> None:
        """Refuse a function that has a name here, and that another process would not find.

        Args:
            func: The function.
            what: What it is wanted for, for the error.

        Raises:
            ConfigurationError: It would not, with the reason.
        """
        why = lost_elsewhere(str(getattr(func, "__module__", None) or type(func).__module__))
        if why:
            raise ConfigurationError(f"{what}: {why}.")

    def target_of(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Target:
        """Turn a call into a name and arguments that make the same call again.

        Args:
            func: What was given to `add_task`.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            TypeError: It can never be called.
            NotDurableError: It has no name.
        """
        return target_of(self, func, args, kwargs)

    def _resolved_before(self, name: str) -> object:
        """Return what a name without dots led to before, if that is what is still there."""
        hint = self._resolved.get(name)
        if hint is None:
            return None
        module_name, attribute, found = hint
        module = self._loaded(module_name)
        return found if module and module.__dict__.get(attribute) is found else None

    def _add_module(self, name: str) -> None:
        name = canonical(name)
        if not all(map(str.isidentifier, name.split("."))) and name != main_name():
            raise ConfigurationError(f"{name!r} is not the name of a module.")
        self._known.add(name)

    def _find_name(self, obj: object) -> str:
        qualname = getattr(obj, "__qualname__", None)
        home = getattr(obj, "__module__", None)
        if not isinstance(qualname, str) or not isinstance(home, str):
            raise NotDurableError(
                f"An object of the class {type(obj).__name__}",
                "it is no function or class of a module",
                AT_THE_TOP,
            )
        module_name = canonical(home)
        where = f"{module_name}.{qualname}"
        refuse_local(where, qualname, obj)
        if module_name in MAIN:
            raise NotDurableError(
                where, "the program that defines it runs from no .py file", AT_THE_TOP
            )
        if not self.knows(module_name):
            raise NotDurableError(where, unknown(module_name), name_it(module_name))
        module = self._loaded(module_name)
        is_main = module is sys.modules["__main__"]
        try:
            if module is None or not (is_main or getattr(module, "__spec__", None)):
                raise LostError("its module was made at run time and is in no file")
            found = walk(module, parse(f"{module_name}:{qualname}")[1])
        except LostError as error:
            raise NotDurableError(where, str(error), AT_THE_TOP) from error
        if found is not obj:
            refuse_shadowed(where, obj, found, twice=home in MAIN and not is_main)
        name = f"{module_name}:{qualname}"
        if "." not in qualname and not is_main:
            _remember(self._names, id(obj), (module_name, qualname, name))
        elif "." not in qualname and self._main_is_app:
            _remember(self._names, id(obj), ("__main__", qualname, name))
        return name

    def _loaded(self, name: str) -> ModuleType | None:
        """Return an imported module; the running program counts under the name it would have."""
        found = sys.modules.get(name)
        if (found is None or self._main_is_app) and name == main_name():
            return sys.modules["__main__"]
        return found

    def _import(self, name: str) -> ModuleType:
        module = self._loaded(name)
        if module is not None:
            return module
        if any(is_dunder(part) for part in name.split(".")):
            raise LostError(f"importing {name!r} would start that program")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise LostError(f"there is no module {error.name!r}") from error
            raise LostError(f"importing {name!r} failed: {error}") from error
        except (Exception, SystemExit) as error:  # any code may run at the top of a module
            raise LostError(f"importing {name!r} failed: {error!r}") from error

    def _check_home(self, found: object) -> None:
        """Refuse what a known module has only imported, as by `from subprocess import run`."""
        while isinstance(found, functools.partial | MethodType):
            found = found.func if isinstance(found, functools.partial) else found.__func__
        if isinstance(found, _FUNCTIONS) or "__qualname__" in getattr(found, "__dict__", ()):
            home = getattr(found, "__module__", None)
            if not isinstance(home, str) or not self.knows(home):
                raise LostError(f"it is imported there from {home!r}. {name_it(str(home))}")


def _remember(hints: dict[Any, Any], key: int | str, hint: tuple[Any, ...]) -> None:
    if len(hints) >= _LARGEST_CACHE:
        hints.clear()
    hints[key] = hint
