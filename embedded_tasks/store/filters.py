"""Which jobs are meant: by state, task, queue, tag, owner, error group, time and text.

What lives here: `JobFilter` and its checks. What does not: finding them (`listing`). Made by users
and doors, read by the store.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import ShownState

__all__ = ["JobFilter"]

_LONGEST_TEXT = 500
_NUMBERS = ("created_after", "created_before", "finished_after", "finished_before")
_TEXTS = ("task", "queue", "tag", "group", "belongs_to", "argument", "error", "text")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are listed; None means any. All that is given must hold.

    Args:
        state: A state as people see it, such as "failed" or "retrying", or several of them.
        task: A task's name.
        queue: A queue's name.
        before: The key of a job; only older ones are listed.
        limit: How many at most (default 50).
        tag: A tag that the job has.
        group: The id of an error group: jobs whose latest failure is of this kind.
        belongs_to: Whom the job belongs to: the `owner` of its options.
        created_after: Created at this time or later, in seconds since 1970.
        created_before: Created earlier than this.
        finished_after: Finished at this time or later.
        finished_before: Finished earlier than this.
        argument: A text in its stored arguments, upper and lower case alike (ASCII).
        error: A text in its reason, or in the class or message of one of its errors.
        text: A text in either.

    Raises:
        ConfigurationError: There is no such state, or a value is out of its range.

    Example:
        `JobFilter(state="failed", task="shop:send_invoice", created_after=time() - 3600)`
    """

    state: ShownState | str | Sequence[ShownState | str] | None = None
    task: str | None = None
    queue: str | None = None
    before: int | None = None
    limit: int = 50
    tag: str | None = None
    group: str | None = None
    belongs_to: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    finished_after: float | None = None
    finished_before: float | None = None
    argument: str | None = None
    error: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        known = [state.value for state in ShownState]
        for state in self._given_states():
            if state not in known:
                raise ConfigurationError(
                    f"JobFilter(state={self.state!r}): expected one of {', '.join(known)}."
                )
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigurationError(f"JobFilter({name}={value!r}): expected a time.")
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and not 0 < len(value) <= _LONGEST_TEXT:
                raise ConfigurationError(
                    f"JobFilter({name}=): expected 1 to {_LONGEST_TEXT} characters."
                )

    @property
    def states(self) -> tuple[ShownState, ...]:
        """The states, in their order and each once; empty for any."""
        given = self._given_states()
        return tuple(state for state in ShownState if state.value in given)

    @property
    def searches(self) -> bool:
        """Whether texts are searched, which reads only so many jobs at once."""
        return self.argument is not None or self.error is not None or self.text is not None

    def in_words(self) -> str:
        """Return the filter as `name=value` pairs, for the audit."""
        parts = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("before", "limit") or value is None:
                continue
            if item.name == "state":
                value = ",".join(self.states)
            parts.append(f"{item.name}={value}")
        return " ".join(parts) or "all jobs"

    def _given_states(self) -> list[str]:
        if self.state is None:
            return []
        given = [self.state] if isinstance(self.state, str) else list(self.state)
        return [str(state) for state in given]
