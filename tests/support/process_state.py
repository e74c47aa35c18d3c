"""What a whole process shares, put back as it was before somebody else's code ran.

What lives here: looking at that state, and putting it back. What does not: the code that changes
it. Used by tests that run an app's own code, as the blocks of the documentation are.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog

__all__ = ["putting_back"]

_ATTRIBUTES = (
    (sys, ("excepthook", "unraisablehook", "displayhook", "stdin", "stdout", "stderr")),
    (threading, ("excepthook",)),
    (logging, ("lastResort", "raiseExceptions")),
)


@contextmanager
def putting_back() -> Iterator[None]:
    """Put back what all of a process shares when the block is over, however it ends.

    Variables of a context are not among it: run the code in a context of its own. Modules that were
    imported stay, but a name that led to a module before leads to the same one again.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for look in _LOOKS:
            stack.callback(look())
        yield


def _environment() -> Callable[[], None]:
    before, folder = dict(os.environ), Path.cwd()

    def put_back() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        time.tzset()
        os.chdir(folder)

    return put_back


def _imports() -> Callable[[], None]:
    lists: list[list[Any]] = [sys.path, sys.meta_path, sys.path_hooks]
    before, modules = [list(each) for each in lists], dict(sys.modules)

    def put_back() -> None:
        for each, old in zip(lists, before, strict=True):
            each[:] = old
        sys.modules.update(modules)

    return put_back


def _attributes() -> Callable[[], None]:
    before = [_fields(owner, names) for owner, names in _ATTRIBUTES]
    return lambda: _set_all(before)


def _signals() -> Callable[[], None]:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def put_back() -> None:
        for number, handler in before.items():
            # What C has set reads as None, and cannot be set from here.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)

    return put_back


def _figures() -> Callable[[], None]:
    chance, depth, timeout = random.getstate(), sys.getrecursionlimit(), socket.getdefaulttimeout()

    def put_back() -> None:
        random.setstate(chance)
        sys.setrecursionlimit(depth)
        socket.setdefaulttimeout(timeout)

    return put_back


def _structlog() -> Callable[[], None]:
    before = structlog.get_config() if structlog.is_configured() else None

    def put_back() -> None:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)

    return put_back


def _logging() -> Callable[[], None]:
    disabled = logging.root.manager.disable
    loggers = {each: _logger_fields(each) for each in _loggers()}
    handlers = {handler for each in loggers for handler in each.handlers}
    fields = [_fields(each, ("level", "formatter", "filters")) for each in handlers]

    def put_back() -> None:
        # A logger that is new may be held by a module, so it stays, but as if nobody had set it up.
        for each in _loggers():
            for handler in set(each.handlers) - handlers:
                handler.close()
            _set_all([(each, loggers[each][1] if each in loggers else _new_logger())])
        _set_all(fields)
        # This also forgets what the loggers remember of their levels.
        logging.disable(disabled)

    return put_back


_LOOKS = (_environment, _imports, _attributes, _signals, _figures, _structlog, _logging)

_Fields = tuple[Any, dict[str, Any]]


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(each for each in known if isinstance(each, logging.Logger))]


def _logger_fields(logger: logging.Logger) -> _Fields:
    return _fields(logger, ("handlers", "filters", "level", "propagate", "disabled"))


def _new_logger() -> dict[str, Any]:
    return {"handlers": [], "filters": [], "level": 0, "propagate": True, "disabled": False}


def _fields(owner: object, names: Iterable[str]) -> _Fields:
    """Return what an object holds; lists are copied, as they are changed in place."""
    values = {name: getattr(owner, name) for name in names}
    return owner, {k: list(v) if isinstance(v, list) else v for k, v in values.items()}


def _set_all(all_fields: Iterable[_Fields]) -> None:
    for owner, values in all_fields:
        for name, value in values.items():
            setattr(owner, name, value)
