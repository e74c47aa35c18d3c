"""A task: a function with a stable name and a policy, and how it is found again.

What lives here: the `@task` decorator, `Task`, and the `Catalogue` of one runner. What does not:
any runner; a task never knows one. Used by the actions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from embedded_tasks.config import Policy, TaskOptions, check_label
from embedded_tasks.context import JobContext
from embedded_tasks.errors import (
    ArgumentsError,
    ConfigurationError,
    PayloadError,
    UnknownTaskError,
)
from embedded_tasks.signature import Signature
from embedded_tasks.upgrading import Versions
from embedded_tasks.versions import Upgrade, check_unversioned, split_name, stored_name

__all__ = ["Catalogue", "NameResolver", "Task", "TaskMark", "is_async", "task"]

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__embedded_task__"
_FIRST = Versions()


@dataclass(frozen=True, slots=True)
class TaskMark:
    """What `@task` writes onto the function."""

    name: str | None
    aliases: tuple[str, ...]
    policy: Policy
    versions: Versions


@overload
def task(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    version: int = 1,
    upgrade: Upgrade | None = None,
    **options: Unpack[TaskOptions],
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    aliases: tuple[str, ...] = (),
    version: int = 1,
    upgrade: Upgrade | None = None,
    **options: Unpack[TaskOptions],
) -> Any:
    """Give a function a policy; it stays a plain function, whose arguments are checked from now on.

    Args:
        function: The function.
        name: A name that survives moving the function (default: "module:qualname").
        aliases: Earlier names, whose stored jobs this function runs too.
        version: Raise it when its arguments change; code with a lower one leaves its jobs alone.
        upgrade: Makes arguments of this version of a lower one's: called with the version, args
            and kwargs at each attempt, it returns args and kwargs, and does nothing else.
        options: The policy; see `Policy` for each option, its unit and its default.

    Raises:
        ConfigurationError: An option is unknown or can never work.

    Example:
        ```python
        @task(max_attempts=5, timeout=30)
        async def send_invoice(invoice_id: int) -> None: ...
        ```
    """
    given = _names("aliases", aliases), Policy().with_options(options), Versions(version, upgrade)
    mark = TaskMark(_names("name", (name,))[0] if name is not None else None, *given)

    def decorate(target: Callable[P, R]) -> Callable[P, R]:
        if not callable(target):
            raise ConfigurationError(f"@task on {target!r}: expected a function.")
        setattr(target, _MARK, mark)
        return target

    return decorate if function is None else decorate(function)


def _names(option: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_unversioned(option, check_label(option, name)) for name in names)


def is_async(function: object) -> bool:
    """Return whether calling the function gives something to await (as Starlette decides it)."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # the method itself is looked at
    )


@dataclass(frozen=True)
class Task:
    """A function as the runner knows it.

    Args:
        name: The stored name.
        function: What is called.
        policy: How its jobs are tried.
        decorated: Whether `@task` marks it, so that argument types are checked.
        versions: The version of what it takes, and how earlier ones are run.
    """

    name: str
    function: Callable[..., Any]
    policy: Policy
    decorated: bool
    versions: Versions = _FIRST

    @cached_property
    def stored_name(self) -> str:
        """The name under which new jobs are stored."""
        return stored_name(self.name, self.versions.present)

    @cached_property
    def is_coroutine_function(self) -> bool:
        """Whether calling the function gives something to await."""
        return is_async(self.function)

    @cached_property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop and not in a thread or a child process."""
        return self.is_coroutine_function and self.policy.run_in != "process"

    @cached_property
    def can_be_stopped(self) -> bool:
        """Whether the function ends when it is told to, or else by force."""
        return self.is_async or self.policy.run_in == "process"

    @cached_property
    def signature(self) -> Signature:
        """How the function is called."""
        return Signature(self.function, JobContext)

    def check_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit; for decorated tasks their types as well.

        Raises:
            ArgumentsError: What does not fit, and where.
        """
        problem = self.signature.problem(args, kwargs, check_types=self.decorated)
        if problem:
            raise ArgumentsError(self.name, problem)

    def fitted(
        self, version: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the stored arguments of a version as this code takes them.

        Raises:
            UnknownTaskError: This code cannot run that version.
            PayloadError: They do not fit, or `upgrade=` has failed.
        """
        made = version != self.versions.present
        if made:
            args, kwargs = self.versions.upgraded(self.name, version, args, kwargs)
        # What was stored was checked then; what the upgrade has made was not.
        problem = self.signature.problem(args, kwargs, check_types=made)
        if problem:
            what = "what upgrade= made of the" if made else "the"
            raise PayloadError(f"{what} stored arguments do not fit {self.name} now: {problem}")
        return args, kwargs

    @cached_property
    def wants_context(self) -> bool:
        """Whether the function has a parameter for its job's context."""
        return self.signature.wants_context

    def call_with(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: JobContext
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the context put in where the function wants it."""
        return self.signature.with_context(args, kwargs, context)


class NameResolver(Protocol):
    """Finds names of functions and functions of names, inside known packages."""

    def name_of(self, obj: object) -> str:
        """Return the name of a function, if that name leads back to it."""
        ...

    def target_of(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the stored name of a callable, and the arguments that belong to it."""
        ...

    def resolve(self, name: str) -> object:
        """Return what a name stands for."""
        ...

    def known(self) -> list[str]:
        """Return the known packages."""
        ...

    def check_elsewhere(self, func: object, what: str) -> None:
        """Refuse a function that another process would not find."""
        ...

    def knows(self, module_name: str) -> bool:
        """Return whether a module belongs to a known package."""
        ...


class Catalogue:
    """The tasks of one runner: by function when one is enqueued, by name when one is attempted.

    Args:
        names: Resolves names inside known packages.
    """

    def __init__(self, names: NameResolver) -> None:
        self._names = names
        self._by_path: dict[str, Task] = {}
        self._by_name: dict[str, Task] = {}
        self._given: dict[str, str] = {}
        self._queues: set[str] = set()
        self._scanned = 0

    def of(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Task, tuple[Any, ...], dict[str, Any]]:
        """Return the task of a callable, and the arguments to store with it.

        Raises:
            TypeError: It is not callable.
            NotDurableError: It has no name that leads back to it.
        """
        if type(func) is FunctionType:
            # The usual case, and all that is left of it the second time.
            known = self._by_path.get(self._names.name_of(func))
            if known is not None and known.function is func:
                return known, args, kwargs
        target = self._names.target_of(func, args, kwargs)
        found = self._by_path.get(target.name)
        function = self._names.resolve(target.name)
        if found is None or found.function is not function:
            found = self._by_path[target.name] = self._task(target.name, function)
            if found.name != target.name:
                self._give(found.name, target.name)
        return found, target.args, target.kwargs

    def find(self, stored: str) -> Task:
        """Return the task of a stored name.

        Raises:
            UnknownTaskError: This code has no such task, or cannot run its version.
        """
        name, version = split_name(stored)
        found = self._find(name)
        found.versions.check_runs(name, version)
        return found

    def _find(self, name: str) -> Task:
        path = self._given.get(name)
        if path is None and ":" not in name:
            self._scan()
            path = self._given.get(name)
        if path is None and ":" not in name:
            raise UnknownTaskError(name, "no loaded module of a known package has a task named so")
        try:
            function = self._names.resolve(path or name)
        except UnknownTaskError:
            self._scan()
            if name not in self._given:
                raise
            function = self._names.resolve(self._given[name])
        found = self._by_name.get(name)
        if found is None or found.function is not function:
            found = self._by_name[name] = self._task(path or name, function)
        return found

    def queues(self) -> set[str]:
        """Return the queues that tasks of the loaded modules of known packages name."""
        with suppress(ConfigurationError):  # a name given twice is told to whoever asks for it
            self._scan()
        return set(self._queues)

    def known_packages(self) -> list[str]:
        """Return the packages whose names are resolved, for a child process."""
        return self._names.known()

    def check_child_finds(self, task: Task) -> None:
        """Refuse `run_in="process"` for a function that a child process would not find."""
        self._names.check_elsewhere(task.function, f'run_in="process" for {task.name}')

    def can_be_stopped(self, name: str) -> bool | None:
        """Return whether a task's function can be stopped, or None without this task's code."""
        try:
            return self.find(name).can_be_stopped
        except UnknownTaskError:
            return None

    def parameters_of(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a task's positional parameters, or None where they are not known."""
        try:
            return self.find(name).signature.positional
        except (ConfigurationError, UnknownTaskError):
            return None

    def _task(self, path: str, function: object) -> Task:
        if not callable(function):
            raise UnknownTaskError(path, "it is not a function")
        mark = getattr(function, _MARK, None)
        if not isinstance(mark, TaskMark):
            return Task(path, function, Policy(), decorated=False)
        return Task(mark.name or path, function, mark.policy, True, mark.versions)

    def _scan(self) -> None:
        """Look for given names and aliases in the loaded modules of known packages."""
        modules = list(sys.modules.items())
        if len(modules) == self._scanned:
            return
        self._scanned = len(modules)
        for module_name, module in modules:
            # Some programs put None or an object of their own there.
            if type(module).__name__ == "module" and self._names.knows(module_name):
                self._scan_module(module_name, module)

    def _scan_module(self, module_name: str, module: ModuleType) -> None:
        for attribute, value in list(vars(module).items()):
            mark = getattr(value, _MARK, None) if inspect.isfunction(value) else None
            if isinstance(mark, TaskMark) and value.__module__ == module_name:
                path = f"{module_name}:{attribute}"
                self._queues.add(mark.policy.queue)
                for name in (mark.name, *mark.aliases):
                    if name is not None:
                        self._give(name, path)

    def _give(self, name: str, path: str) -> None:
        before = self._given.setdefault(name, path)
        if before != path:
            raise ConfigurationError(
                f"the task name {name!r} is used twice: by {before} and by {path}."
            )
