"""Between Python values and the text that is stored: arguments, results, a job's own options.

What lives here: `Codec`, which ties the payload format to one runner's names and limits. What does
not: the format itself (`payload`). Used by the actions.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Protocol

from embedded_tasks.clock import seconds
from embedded_tasks.config import JobOptions, Policy
from embedded_tasks.errors import PayloadError, UnknownTaskError
from embedded_tasks.failure import class_name
from embedded_tasks.payload import decode, decode_arguments, encode, encode_arguments
from embedded_tasks.retry import Backoff, BackoffPolicy

__all__ = ["Codec", "Names"]


class Names(Protocol):
    """Names of functions and classes, inside known packages."""

    def name_of(self, obj: object) -> str:
        """Return the name that leads back to an object."""
        ...

    def resolve(self, name: str) -> object:
        """Return what a name stands for."""
        ...


class Codec:
    """Encodes and decodes for one runner.

    Args:
        names: Resolves classes and functions inside known packages.
        limit: The largest payload in bytes.
    """

    def __init__(self, names: Names, limit: int) -> None:
        self._names = names
        self._limit = limit
        self._policies: dict[tuple[int, str], tuple[Policy, Policy]] = {}

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any], task: str) -> str:
        """Return arguments as text.

        Raises:
            NotDurableError: One of them cannot be stored exactly.
        """
        return encode_arguments(args, kwargs, self._names, task=task, limit=self._limit)

    def arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return stored arguments.

        Raises:
            PayloadError: This code cannot read them.
        """
        return decode_arguments(text, self._names)

    def result(self, value: object, task: str) -> str:
        """Return a result as text.

        Raises:
            NotDurableError: It cannot be stored exactly.
        """
        if value is None:
            return "null"
        return encode(value, self._names, where=f"The result of {task}", limit=self._limit)

    def decoded_result(self, text: str) -> Any:
        """Return a stored result."""
        return None if text == "null" else decode(text, self._names)

    def options_text(self, options: JobOptions, policy: Policy) -> str | None:
        """Return the options of one job that its attempts need, as text; the rest are columns.

        Args:
            options: Which ones the job has of its own.
            policy: Their checked values.

        Raises:
            NotDurableError: The backoff is a function that cannot be stored.
        """
        stored: dict[str, Any] = {}
        if "max_attempts" in options:
            stored["max_attempts"] = policy.max_attempts
        if "timeout" in options:
            stored["timeout"] = policy.timeout
        if "run_in" in options:
            stored["run_in"] = policy.run_in
        if "retry_on" in options:
            stored["retry_on"] = [_class_name(item) for item in policy.retry_on]
        if "give_up_on" in options:
            stored["give_up_on"] = [_class_name(item) for item in policy.give_up_on]
        if "backoff" in options:
            stored["backoff"] = self._stored_backoff(policy.backoff)
        return json.dumps(stored) if stored else None

    def policy(self, base: Policy, options: str | None) -> Policy:
        """Return a task's policy with the job's own options in place.

        Raises:
            PayloadError: The stored options cannot be read.
        """
        if options is None:
            return base
        known = self._policies.get((id(base), options))
        if known is not None and known[0] is base:
            return known[1]
        try:
            policy = self._read_policy(base, json.loads(options))
        except (ValueError, TypeError, AttributeError, KeyError, UnknownTaskError) as error:
            raise PayloadError(f"the stored options cannot be read: {error}") from error
        if len(self._policies) > 1_000:
            self._policies.clear()
        self._policies[id(base), options] = (base, policy)
        return policy

    def _stored_backoff(self, backoff: BackoffPolicy) -> Any:
        if isinstance(backoff, Backoff):
            return {name: seconds(value, "backoff") for name, value in asdict(backoff).items()}
        if callable(backoff):
            return self._names.name_of(backoff)
        return [seconds(item, "backoff") for item in backoff]

    def _read_policy(self, base: Policy, stored: dict[str, Any]) -> Policy:
        backoff = stored.get("backoff")
        if isinstance(backoff, dict):
            stored["backoff"] = Backoff(**backoff)
        elif isinstance(backoff, str):
            stored["backoff"] = self._names.resolve(backoff)
        names: dict[str, tuple[str, ...]] = {
            key: tuple(stored.pop(key)) for key in ("retry_on", "give_up_on") if key in stored
        }
        policy = base.with_options(stored)  # type: ignore[arg-type]  # it checks every key itself
        return policy.with_error_names(names)


def _class_name(item: type[BaseException] | str) -> str:
    return item if isinstance(item, str) else class_name(item)
