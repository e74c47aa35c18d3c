"""What can be set: a task's policy and a job's options.

What lives here: `TaskOptions` (what a user may write) and `Policy` (checked, frozen, complete).
What does not: the runner's own parameters, which are in `runner.py`. Used by every action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypedDict, cast, get_args

from embedded_tasks.clock import Duration, seconds
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.retry import Backoff, BackoffPolicy

__all__ = ["JobOptions", "OnCrash", "Policy", "Retention", "RunIn", "TaskOptions", "check_label"]

OnCrash = Literal["retry", "hold", "fail"]
"""What happens to a job whose process died while it ran."""

RunIn = Literal["auto", "process"]
"""Where a function is called: on the loop or in a thread, or in a child process."""

_LONGEST_LABEL = 200
_LIMIT_PRIORITY = 1_000_000


class TaskOptions(TypedDict, total=False):
    """What `@task(...)` and `options(...)` both take; durations are seconds or timedelta."""

    max_attempts: int
    backoff: BackoffPolicy
    retry_on: Sequence[type[BaseException]]
    give_up_on: Sequence[type[BaseException]]
    timeout: Duration | None
    start_within: Duration | None
    finish_within: Duration | None
    priority: int
    queue: str
    tags: Sequence[str]
    on_crash: OnCrash
    run_in: RunIn


class JobOptions(TaskOptions, total=False):
    """What `options(...)` takes: all of `TaskOptions`, when it is due, and whose it is."""

    delay: Duration
    run_at: datetime
    owner: str


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs are kept before they are removed; held jobs are never removed.

    Args:
        succeeded: Seconds or a timedelta (default one day).
        failed: Seconds or a timedelta (default seven days).
        cancelled: Seconds or a timedelta (default one day).
        expired: Seconds or a timedelta (default seven days).

    Example:
        `TaskRunner("tasks.db", retention=Retention(succeeded=timedelta(hours=1)))`
    """

    succeeded: Duration = 86400.0
    failed: Duration = 7 * 86400.0
    cancelled: Duration = 86400.0
    expired: Duration = 7 * 86400.0

    def __post_init__(self) -> None:
        for name in ("succeeded", "failed", "cancelled", "expired"):
            seconds(getattr(self, name), f"Retention({name}=)")

    def keep(self, state: str) -> float:
        """Return the seconds that a job of this finished state is kept."""
        return seconds(getattr(self, state), state)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a job is tried: complete and checked. Times are in seconds.

    Args:
        max_attempts: Failed attempts before the job is failed (default 1: no retry on error).
        backoff: Waits between attempts.
        retry_on: Error classes that are retried (default: every `Exception`).
        give_up_on: Error classes that are not, although `retry_on` names them.
        timeout: Longest time of one attempt, from the function's first line; None for no limit.
        start_within: The job expires unless its first attempt starts this long after it is due.
        finish_within: The job expires unless it finishes this long after it is due.
        priority: Higher runs first (default 0).
        queue: Queue name (default "default").
        tags: Free labels to find jobs by.
        on_crash: "retry" (default), "hold" or "fail" when the process died in an attempt.
        run_in: "auto" (default): an async function on the event loop, a sync one in a thread;
            "process": in a child process, which can be killed.
    """

    max_attempts: int = 1
    backoff: BackoffPolicy = Backoff()
    retry_on: tuple[type[BaseException] | str, ...] = (Exception,)
    give_up_on: tuple[type[BaseException] | str, ...] = ()
    timeout: float | None = None
    start_within: float | None = None
    finish_within: float | None = None
    priority: int = 0
    queue: str = "default"
    tags: tuple[str, ...] = ()
    on_crash: OnCrash = "retry"
    run_in: RunIn = "auto"

    def with_options(self, options: TaskOptions) -> Policy:
        """Return this policy with the given options in place of its own, all checked."""
        if not options:
            return self
        unknown = set(options) - set(TaskOptions.__annotations__)
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(TaskOptions.__annotations__))}."
            )
        return replace(self, **{name: _checked(name, options[name]) for name in options})  # type: ignore[literal-required]  # the keys were checked above

    def with_error_names(self, names: Mapping[str, tuple[str, ...]]) -> Policy:
        """Return this policy with error classes given by their stored names."""
        return replace(self, **names) if names else self  # type: ignore[arg-type]  # the keys are fields


def _checked(name: str, value: object) -> Any:
    return _CHECKS[name](name, value)


def _integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(f"{name}={value!r}: expected an int from {low} to {high}.")
    return value


def _optional_seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    number = seconds(cast(Duration, value), name)
    if number == 0:
        raise ConfigurationError(f"{name}=0: expected more than 0 seconds, or None for no limit.")
    return number


def _error_classes(name: str, value: object) -> tuple[type[BaseException], ...]:
    items = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    classes = [item for item in items if isinstance(item, type)]
    errors = tuple(item for item in classes if issubclass(item, BaseException))
    if len(errors) < len(items):
        raise ConfigurationError(f"{name}={value!r}: expected a list of exception classes.")
    return errors


def _backoff(name: str, value: object) -> BackoffPolicy:
    if isinstance(value, list | tuple) and value:
        return tuple(seconds(item, name) for item in value)
    if isinstance(value, Backoff) or callable(value):
        return cast(BackoffPolicy, value)
    raise ConfigurationError(
        f"{name}={value!r}: expected a Backoff, a list of durations that is not empty, or a "
        "function of the failure count."
    )


def check_label(name: str, value: object) -> str:
    """Return a queue, tag or task name, refused when it is empty, too long or not printable."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _LONGEST_LABEL
        or not value.isprintable()
    ):
        raise ConfigurationError(
            f"{name}={value!r}: expected 1 to {_LONGEST_LABEL} printable characters."
        )
    return value


def _tags(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigurationError(f"{name}={value!r}: expected a list of strings.")
    return tuple(dict.fromkeys(check_label(name, item) for item in value))


def _on_crash(name: str, value: object) -> OnCrash:
    if value not in get_args(OnCrash):
        raise ConfigurationError(f'{name}={value!r}: expected "retry", "hold" or "fail".')
    return cast(OnCrash, value)


def _run_in(name: str, value: object) -> RunIn:
    if value not in get_args(RunIn):
        raise ConfigurationError(f'{name}={value!r}: expected "auto" or "process".')
    return cast(RunIn, value)


_CHECKS = {
    "max_attempts": lambda name, value: _integer(name, value, 1, 1_000_000),
    "priority": lambda name, value: _integer(name, value, -_LIMIT_PRIORITY, _LIMIT_PRIORITY),
    "backoff": _backoff,
    "retry_on": _error_classes,
    "give_up_on": _error_classes,
    "timeout": _optional_seconds,
    "start_within": _optional_seconds,
    "finish_within": _optional_seconds,
    "queue": check_label,
    "tags": _tags,
    "on_crash": _on_crash,
    "run_in": _run_in,
}
