"""Why something has no name, in words.

What lives here: the errors for functions and calls that cannot be stored. What does not: finding
that out (`known`, `calls`). Called by those two.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Final, NoReturn

from embedded_tasks.errors import NotDurableError

__all__ = ["AT_THE_TOP", "name_it", "refuse_call", "refuse_local", "refuse_shadowed", "unknown"]

AT_THE_TOP: Final = "Use a function or class that is defined at the top of a module."
_MOST_DECORATORS: Final = 20


def unknown(module_name: str) -> str:
    """Return the reason for a module that is in no known package."""
    return f"the module {module_name!r} is not in a package that the app's routes come from"


def name_it(module_name: str) -> str:
    """Return the remedy for a module that is in no known package."""
    root = module_name.partition(":")[0].partition(".")[0]
    return (
        "Call it from a function of your own, or name its module: "
        f'TaskRunner(..., modules=["{root[:100]}"]).'
    )


def refuse_call(func: object) -> NoReturn:
    """Raise the TypeError for `add_task(f())` and its like."""
    if isinstance(func, Coroutine):
        name = getattr(func, "__name__", "f")
        func.close()  # otherwise Python warns later, far from here, that it was never awaited
        raise TypeError(
            f"{name}(...) was called, and what it returned, a coroutine, was given as the task. "
            f"Call add_task({name}, ...) without the brackets: the arguments follow the function."
        )
    raise TypeError(
        f"{'None' if func is None else f'An object of the class {type(func).__name__}'} was given "
        "as the task, which must be a function. Call add_task(f, ...) without the brackets: "
        "add_task(f()) calls f at once and hands over what it returned."
    )


def refuse_local(where: str, qualname: str, obj: object) -> None:
    """Raise NotDurableError for what is not defined at the top of a module or class."""
    if qualname.endswith("<lambda>"):
        raise NotDurableError(
            where, "a lambda has no name by which it can be found again", AT_THE_TOP
        )
    if "<locals>" in qualname:
        outer = qualname.partition(".<locals>")[0]
        raise NotDurableError(
            where,
            f"it is defined inside {outer}() and cannot be found from outside",
            f"{AT_THE_TOP} If a decorator made it, use functools.wraps in the decorator.",
        )
    if "[" in qualname or inspect.isclass(getattr(obj, "__origin__", None)):
        raise NotDurableError(
            where,
            "it is a generic class with parameters, made at run time",
            "Name it by a subclass at the top of a module: class Name(Generic[Item]): ...",
        )


def refuse_shadowed(where: str, obj: object, found: object, *, twice: bool) -> NoReturn:
    """Raise NotDurableError for an object whose name leads to another one.

    Args:
        where: The object's own name.
        obj: The object.
        found: What the name leads to.
        twice: Whether the object's module exists twice, once as `__main__`.
    """
    layers = [found]
    while len(layers) < _MOST_DECORATORS and layers[-1] is not None:
        layers.append(getattr(layers[-1], "__wrapped__", None))
    if twice:
        reason = "the program that defines it runs as __main__ and was imported by its name too"
        remedy = "Start the app from another file, or take the function from the imported module."
    elif any(layer is obj for layer in layers):
        reason = "its name leads to a decorated function, and this is the one inside"
        remedy = "Use the decorated one, by its name."
    else:
        reason = "its name leads to another object: it was used again, or reloaded"
        remedy = "Give it a name of its own; in a decorator, use functools.wraps."
    raise NotDurableError(where, reason, remedy)
