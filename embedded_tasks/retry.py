"""When to try again: pure arithmetic, and the two exceptions by which a task asks for it.

What lives here: `Retry`, `Snooze`, `Backoff` and `delay_before_retry`. What does not: the decision
whether an error is retried at all, which `attempt.py` takes by the task's policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from embedded_tasks.clock import Duration, seconds
from embedded_tasks.errors import ConfigurationError

__all__ = ["Backoff", "BackoffPolicy", "Retry", "Snooze", "delay_before_retry"]


class Retry(Exception):
    """Raised by a task: this attempt failed, try again, whatever the error policy says.

    It counts as an attempt; when `max_attempts` is used up, the job fails.

    Args:
        reason: Shown with the attempt.
        after: Seconds or a timedelta until the next attempt; None (default) asks the backoff.

    Example:
        `raise Retry("the bank is closed", after=timedelta(hours=1))`
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        self.reason = reason
        self.after: float | None = None if after is None else seconds(after, "Retry(after=)")
        super().__init__(reason or "the task asked for a retry")


class Snooze(Exception):
    """Raised by a task: not now. The job waits and this try does not count as an attempt.

    Args:
        delay: Seconds or a timedelta until the job is due again.
        reason: Shown with the job.

    Example:
        `raise Snooze(60, reason="report not ready")`
    """

    def __init__(self, delay: Duration, *, reason: str = "") -> None:
        self.delay: float = seconds(delay, "Snooze(delay)")
        self.reason = reason
        super().__init__(reason or f"snoozed for {self.delay:g} s")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times that grow from failure to failure, with jitter and a cap.

    Args:
        first: Seconds before the first retry (default 1).
        factor: By how much each further wait grows (default 2).
        cap: The longest wait in seconds (default one hour).
        jitter: Each wait is drawn from `wait * (1 - jitter)` to `wait * (1 + jitter)`, so that
            jobs that failed together do not return together (default 0.25).

    Example:
        `@task(max_attempts=5, backoff=Backoff(first=10, cap=600))`
    """

    first: Duration = 1.0
    factor: float = 2.0
    cap: Duration = 3600.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        seconds(self.first, "Backoff(first=)")
        seconds(self.cap, "Backoff(cap=)")
        if not self.factor >= 1:
            raise ConfigurationError(f"Backoff(factor={self.factor!r}): expected 1 or more.")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"Backoff(jitter={self.jitter!r}): expected 0 to 1.")

    def delay(self, failures: int, rng: Random) -> float:
        """Return the seconds to wait after this many failures (1 or more)."""
        first, cap = seconds(self.first, "first"), seconds(self.cap, "cap")
        try:
            wait = min(first * self.factor ** (failures - 1), cap)
        except OverflowError:
            wait = cap
        return min(wait * rng.uniform(1 - self.jitter, 1 + self.jitter), cap)


BackoffPolicy = Backoff | Sequence[Duration] | Callable[[int], Duration]
"""A `Backoff`, a list of waits (its last one repeats), or a function of the failure count."""


def delay_before_retry(policy: BackoffPolicy, failures: int, rng: Random) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        policy: A `Backoff`, a list of waits, or a function from the failure count to a wait.
        failures: How many attempts have failed, 1 or more.
        rng: Where the jitter comes from.

    Raises:
        ConfigurationError: The function returned something that is not a duration.
    """
    if isinstance(policy, Backoff):
        return policy.delay(failures, rng)
    if callable(policy):
        return seconds(policy(failures), "backoff function")
    return seconds(policy[min(failures, len(policy)) - 1], "backoff")
