"""How a call becomes a name and arguments.

What lives here: partials, bound methods and callable objects, taken apart. What does not: names
themselves (`known`), and arguments as text (`payload`). Called by `References.target_of`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, Protocol

from embedded_tasks.errors import NotDurableError
from embedded_tasks.references.paths import LostError, member
from embedded_tasks.references.refusals import refuse_call

__all__ = ["Names", "Target", "target_of"]

_PLACEHOLDER: Final = getattr(functools, "Placeholder", None)  # since Python 3.14


class Names(Protocol):
    """Who gives names; `References` does."""

    def name_of(self, obj: object) -> str:
        """Return the name of a function or class."""
        ...

    def global_name_of(self, instance: object) -> str | None:
        """Return the name of the module-level variable that is this object."""
        ...


class Target(NamedTuple):
    """A call that can be stored: `resolve(name)(*args, **kwargs)` is the same call again."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def target_of(
    names: Names, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Target:
    """Turn a call into a name and arguments that make the same call again.

    Partials are taken apart. A method of an object that is no module-level variable becomes
    the class's function with the object as first argument; `payload` says whether that
    object can be stored.

    Args:
        names: The known names.
        func: What was given to `add_task`.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        TypeError: It can never be called.
        NotDurableError: It has no name.
    """
    while isinstance(func, functools.partial):
        args, kwargs = _merge(func, args, kwargs)
        func = func.func
    kwargs = dict(kwargs)
    if isinstance(func, FunctionType):
        return Target(names.name_of(func), args, kwargs)
    if not callable(func):
        refuse_call(func)
    if isinstance(func, MethodType):
        return _method_target(names, func, args, kwargs)
    owner = getattr(func, "__self__", None)
    if isinstance(func, BuiltinFunctionType) and not isinstance(owner, ModuleType | None):
        return Target(_builtin_method_name(names, func.__name__, owner), args, kwargs)
    if isinstance(func, FunctionType | BuiltinFunctionType | type) or "__qualname__" in getattr(
        func, "__dict__", ()
    ):
        return Target(names.name_of(func), args, kwargs)
    return _instance_target(names, func, "", args, kwargs)


def _builtin_method_name(names: Names, method: str, owner: object) -> str:
    variable = names.global_name_of(owner)
    if variable is None:
        raise NotDurableError(
            f"{type(owner).__name__}.{method}",
            "it is a method of an object, and a replay would change a copy of it",
            "Call it from a function of your own.",
        )
    return f"{variable}.{method}"


def _method_target(
    names: Names, method: MethodType, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Target:
    owner = method.__self__
    attribute = getattr(method.__func__, "__name__", "")
    kind = owner if isinstance(owner, type) else type(owner)
    try:
        found = member(owner, attribute)
    except LostError:
        found = None
    if not (
        isinstance(found, MethodType)
        and found.__func__ is method.__func__
        and found.__self__ is owner
    ):
        raise NotDurableError(
            f"{kind.__qualname__}.{attribute}",
            "the class has another attribute of this name, or none",
            "If a decorator made it, use functools.wraps in the decorator.",
        )
    if isinstance(owner, type):
        return Target(f"{names.name_of(owner)}.{attribute}", args, kwargs)
    return _instance_target(names, owner, attribute, args, kwargs)


def _instance_target(
    names: Names, owner: object, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Target:
    variable = names.global_name_of(owner)
    if variable is not None:
        plain = method in {"", "__call__"}
        return Target(variable if plain else f"{variable}.{method}", args, kwargs)
    kind = type(owner)
    try:
        class_name = names.name_of(kind)
    except NotDurableError as error:
        raise NotDurableError(
            f"{kind.__qualname__}.{method or '__call__'}",
            "its object is not a module-level variable of a known package, and its class "
            f"has no name ({error.reason})",
            "Call it from a function of your own, or make the object a module-level variable.",
        ) from error
    return Target(f"{class_name}.{method or '__call__'}", (owner, *args), kwargs)


def _merge(
    func: functools.partial[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rest = iter(args)
    filled = [
        value if _PLACEHOLDER is None or value is not _PLACEHOLDER else next(rest, value)
        for value in func.args
    ]
    return (*filled, *rest), {**func.keywords, **kwargs}
