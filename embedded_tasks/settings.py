"""The runner's own settings: what may be given, and what holds then.

What lives here: `RunnerOptions`, `Settings` and test mode. What does not: a task's policy
(`config.py`). Used by the runner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from embedded_tasks.clock import Duration, seconds
from embedded_tasks.config import Retention, check_label
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.events import Observer
from embedded_tasks.masking import Masking

__all__ = ["ALL_QUEUES", "RunnerOptions", "Settings", "always_decodes", "in_test_mode"]

ALL_QUEUES = "*"
"""In `max_queued`: all queues together."""

_MOST_SLOTS = 10_000
_MOST_COUNTED = 1_000_000_000
_LEAST_MEMORY = 128 * 1024 * 1024
_LONGEST_NAME = 100
_SHORTEST_BLOCK = 0.01


class RunnerOptions(TypedDict, total=False):
    """What `TaskRunner(path, ...)` takes; durations are seconds or timedelta."""

    concurrency: int
    sync_concurrency: int
    modules: Sequence[str]
    retention: Retention
    shutdown_grace: Duration
    cancel_patience: Duration
    child_memory_limit: int | None
    child_max_jobs: int | None
    max_stuck: int
    store_wait: Duration
    loop_block_warning: Duration | None
    max_payload_bytes: int
    max_queued: int | Mapping[str, int] | None
    synchronous: Literal["FULL", "NORMAL", "EXTRA", "OFF"]
    journal_mode: Literal["WAL", "DELETE"]
    environment: str | None
    log_successes: bool
    observers: Sequence[Observer]
    secrets: Iterable[str]


@dataclass(frozen=True, slots=True)
class Settings:
    """A runner's settings, checked. Times are in seconds.

    Args:
        path: The file.
        concurrency: How many async attempts run at once (default 10); 0 only enqueues.
        sync_concurrency: How many sync attempts run at once (default: as `concurrency`).
        modules: Packages beside the app's own whose functions may be stored.
        retention: How long finished jobs are kept.
        shutdown_grace: How long running jobs may go on at shutdown (default 4).
        cancel_patience: How long an async function, or one in a child process, may clean up after
            it was told to stop (default 1.5); the child is killed then.
        child_memory_limit: Bytes of memory (resident) that a child process of `run_in="process"`
            may use until it is killed; None (default) for no limit. Linux only.
        child_max_jobs: How many jobs a child process runs until a new one takes its place; None
            (default) for no limit.
        max_stuck: How many functions may go on although they were given up (default 500); those
            beyond it keep their slot.
        store_wait: How long an enqueue waits for its commit before it fails (default 5).
        loop_block_warning: How long the event loop may be kept from going round, while a job runs,
            until that is logged and kept with the job (default 1); None does not watch.
        max_payload_bytes: The largest encoded arguments or result (default 1 MiB).
        max_queued: How many jobs may wait: a number for all together, or one for each queue that
            has a limit, with "*" for all together; None (default) for no limit.
        synchronous: SQLite's setting; only "FULL" (default) and "EXTRA" survive a power cut.
        journal_mode: SQLite's setting (default "WAL").
        environment: A name such as "production", kept in the file from its first use on; a runner
            of another one starts paused (default None: it is not compared).
        log_successes: Log every success too (default False).
        observers: Functions that are told of every event.
        secrets: Further names of secrets, such as "iban": what goes by them is masked in the log,
            in what observers are told, and by the status routes.
    """

    path: str
    concurrency: int = 10
    sync_concurrency: int = 10
    modules: tuple[str, ...] = ()
    retention: Retention = Retention()
    shutdown_grace: float = 4.0
    cancel_patience: float = 1.5
    child_memory_limit: int | None = None
    child_max_jobs: int | None = None
    max_stuck: int = 500
    store_wait: float = 5.0
    loop_block_warning: float | None = 1.0
    max_payload_bytes: int = 1024 * 1024
    max_queued: Mapping[str, int] = field(default_factory=dict)
    synchronous: str = "FULL"
    journal_mode: str = "WAL"
    environment: str | None = None
    log_successes: bool = False
    observers: tuple[Observer, ...] = ()
    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str | os.PathLike[str], options: RunnerOptions) -> Settings:
        """Return checked settings.

        Raises:
            ConfigurationError: An option is unknown or out of its range.
        """
        known = RunnerOptions.__annotations__
        unknown = set(options) - set(known)
        if unknown:
            raise ConfigurationError(
                f"TaskRunner has no option {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(known))}."
            )
        concurrency = _slots("concurrency", options.get("concurrency", 10))
        return cls(
            path=_path(path),
            concurrency=concurrency,
            sync_concurrency=_slots(
                "sync_concurrency", options.get("sync_concurrency", concurrency)
            ),
            modules=_modules(options.get("modules", ())),
            retention=_retention(options.get("retention", Retention())),
            shutdown_grace=seconds(options.get("shutdown_grace", 4.0), "shutdown_grace"),
            cancel_patience=seconds(options.get("cancel_patience", 1.5), "cancel_patience"),
            child_memory_limit=_memory_limit(options.get("child_memory_limit")),
            child_max_jobs=_count("child_max_jobs", options.get("child_max_jobs")),
            max_stuck=_count("max_stuck", options.get("max_stuck", 500), 0) or 0,
            store_wait=seconds(options.get("store_wait", 5.0), "store_wait"),
            loop_block_warning=_block_warning(options.get("loop_block_warning", 1.0)),
            max_payload_bytes=_bytes(options.get("max_payload_bytes", 1024 * 1024)),
            max_queued=_max_queued(options.get("max_queued")),
            synchronous=_one_of(
                "synchronous", options.get("synchronous", "FULL"), "FULL NORMAL EXTRA OFF"
            ),
            journal_mode=_one_of("journal_mode", options.get("journal_mode", "WAL"), "WAL DELETE"),
            environment=_environment(options.get("environment")),
            log_successes=bool(options.get("log_successes", False)),
            observers=_observers(options.get("observers", ())),
            secrets=_secrets(options.get("secrets", ())),
        )


def in_test_mode() -> bool:
    """Return whether every runner gets a private temporary file (EMBEDDED_TASKS_TESTING=1)."""
    return os.environ.get("EMBEDDED_TASKS_TESTING", "") not in ("", "0")


def always_decodes() -> bool:
    """Return whether first attempts get decoded copies too (EMBEDDED_TASKS_ALWAYS_DECODE=1).

    A switch for tests: what works with it does not lean on the identity of what was passed.
    """
    return os.environ.get("EMBEDDED_TASKS_ALWAYS_DECODE", "") not in ("", "0")


def _path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ConfigurationError(f"TaskRunner({path!r}): expected the path of a file.")
    if "://" in text or text.startswith("file:"):
        raise ConfigurationError(
            f"TaskRunner({path!r}): expected the path of a file, such as 'data/tasks.db', "
            "not a URL."
        )
    return text


def _slots(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_SLOTS:
        raise ConfigurationError(f"{name}={value!r}: expected an int from 0 to {_MOST_SLOTS}.")
    return value


def _block_warning(value: Duration | None) -> float | None:
    if value is None:
        return None
    limit = seconds(value, "loop_block_warning")
    if limit < _SHORTEST_BLOCK:
        raise ConfigurationError(
            f"loop_block_warning={value!r}: expected at least {_SHORTEST_BLOCK} s, or None."
        )
    return limit


def _count(name: str, value: object, low: int = 1) -> int | None:
    if value is None and low:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MOST_COUNTED:
        raise ConfigurationError(
            f"{name}={value!r}: expected an int from {low} to {_MOST_COUNTED}."
        )
    return value


def _memory_limit(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST_MEMORY:
        raise ConfigurationError(
            f"child_memory_limit={value!r}: expected at least {_LEAST_MEMORY} bytes; Python and "
            "this package take more than half of that."
        )
    if sys.platform != "linux":
        raise ConfigurationError(
            "child_memory_limit: only Linux tells how much memory another process uses."
        )
    return value


def _modules(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"modules={value!r}: expected a list of module names.")
    return tuple(value)


def _retention(value: object) -> Retention:
    if not isinstance(value, Retention):
        raise ConfigurationError(
            f"retention={value!r}: expected a Retention, such as Retention(succeeded=3600)."
        )
    return value


def _environment(value: object) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME):
        return value
    raise ConfigurationError(
        f"environment={value!r}: expected a name of 1 to {_LONGEST_NAME} characters, or None."
    )


def _observers(value: object) -> tuple[Observer, ...]:
    if not isinstance(value, Iterable) or not all(map(callable, items := tuple(value))):
        raise ConfigurationError(f"observers={value!r}: expected a list of functions.")
    return items


def _max_queued(value: object) -> dict[str, int]:
    if value is None:
        return {}
    limits = value if isinstance(value, Mapping) else {ALL_QUEUES: value}
    for queue, limit in limits.items():
        check_label("max_queued", queue)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST_COUNTED:
            raise ConfigurationError(
                f"max_queued={value!r}: expected a number from 1, or numbers by queue, such as "
                '{"mail": 1_000, "*": 100_000}.'
            )
    return dict(limits)


def _bytes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 64 <= value <= 2**29:
        raise ConfigurationError(f"max_payload_bytes={value!r}: expected 64 to 536870912 bytes.")
    return value


def _one_of(name: str, value: object, known: str) -> str:
    if value not in known.split():
        raise ConfigurationError(f"{name}={value!r}: expected one of {known}.")
    return str(value)


def _secrets(given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"secrets={given!r}: expected names of arguments and fields, such as ['iban']."
        )
    return Masking(given).names
