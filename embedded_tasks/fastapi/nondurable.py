"""What cannot be stored: refused, or counted and warned of.

What lives here: telling. What does not: finding that out, and running it. Used by `batch.py`.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from types import FunctionType
from typing import cast

from embedded_tasks.errors import NotDurableError, NotDurableWarning
from embedded_tasks.runner import Runner

__all__ = ["NonDurable"]

_ADD_TASK = 3
"""How many frames above `added` the line stands that called `add_task`."""
_RUNS_HERE = (
    " It runs in the request, as plain BackgroundTasks do, and is lost if the process dies."
)


class NonDurable:
    """Tells of the tasks of one request that cannot be stored.

    Args:
        runner: Where they are counted.
        endpoint: The request's endpoint, where warnings point to when no `add_task` was called.
        refuse: Raise instead.
    """

    def __init__(self, runner: Runner, endpoint: object, *, refuse: bool) -> None:
        self._runner = runner
        self._endpoint = endpoint
        self._refuse = refuse

    def added(self, error: NotDurableError) -> None:
        """Tell of one whose `add_task` is being called; the warning points at that line."""
        if self._refuse:
            raise error
        self._runner.count_non_durable()
        # The line that the warning names, too.
        caller = sys._getframe(_ADD_TASK)  # noqa: SLF001  # documented, underscore and all
        self._runner.non_durable_sites.add(caller.f_code.co_filename, caller.f_lineno, str(error))
        warnings.warn(f"{error}{_RUNS_HERE}", NotDurableWarning, stacklevel=_ADD_TASK + 1)

    def found(self, error: NotDurableError) -> None:
        """Tell of one that nobody's `add_task` has seen; the warning points at the endpoint."""
        if self._refuse:
            raise error
        self._runner.count_non_durable()
        function = _function_of(self._endpoint)
        code = function.__code__
        self._runner.non_durable_sites.add(code.co_filename, code.co_firstlineno, str(error))
        warnings.warn_explicit(
            f"{error}{_RUNS_HERE}",
            NotDurableWarning,
            filename=function.__code__.co_filename,
            lineno=function.__code__.co_firstlineno,
            module=function.__module__,
            registry=function.__globals__.setdefault("__warningregistry__", {}),
        )


def _function_of(endpoint: object) -> FunctionType:
    """Return the function that a person has written; for want of one, this one."""
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    found = endpoint if inspect.isroutine(endpoint) else type(endpoint).__call__
    found = inspect.unwrap(found)
    found = getattr(found, "__func__", found)
    if isinstance(found, FunctionType):
        return found
    return cast(FunctionType, _function_of)
