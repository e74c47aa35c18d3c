"""The filter language of the jobs page: `state:failed task:shop:send_invoice after:1h`.

What lives here: reading a query, and writing it without one of its terms. What does not: finding
jobs. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from embedded_tasks.admin.fields import JobQuery
from embedded_tasks.job import ShownState

__all__ = ["KEYS", "Search", "Term", "quoted", "search_of"]

KEYS: Final = {
    "state": "One of its states, or several: state:failed,held",
    "task": "The task's full name",
    "queue": "The queue's name",
    "tag": "A tag that the job has",
    "arg": "A text in the arguments",
    "error": "A text in the error or the reason",
    "after": "Created since: after:1h, after:2d, after:2030-01-31",
    "before": "Created before: before:1h, before:2030-01-31T12:00",
    "group": "The id of an error group",
    "owner": "Whom the job belongs to",
}
_FIELDS: Final = {
    "arg": "argument",
    "after": "created_after",
    "before": "created_before",
}
_TERM: Final = re.compile(r'(?:([A-Za-z]+):)?("(?:[^"\\]|\\.)*"|\S+)')
_SPAN: Final = re.compile(r"(\d{1,6})(s|min|m|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST: Final = 2_000


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query, as it was written."""

    key: str
    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Search:
    """A query that was read.

    Args:
        text: As it was written.
        terms: Its parts.
        query: What it means; None when it means nothing.
        problem: Why it means nothing, and what to write.
        hint: What may have been meant otherwise.
        job_id: The job, when a query is its id and nothing else.
    """

    text: str
    terms: list[Term]
    query: JobQuery | None
    problem: str | None = None
    hint: str | None = None
    job_id: str | None = None

    def without(self, term: Term) -> str:
        """Return the query without one of its parts."""
        return " ".join(each.text for each in self.terms if each is not term)

    def with_state(self, state: str | None) -> str:
        """Return the query with this state in place of any other."""
        rest = [each.text for each in self.terms if each.key != "state"]
        return " ".join([*([f"state:{state}"] if state else []), *rest])

    @property
    def states(self) -> list[str]:
        """The states that are asked for."""
        return [state.value for state in self.query.state or ()] if self.query else []


@dataclass(slots=True)
class _Read:
    terms: list[Term] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    hint: str | None = None


class _OddError(ValueError):
    """A query means nothing; the message says why."""


def quoted(value: str) -> str:
    """Return a value as it is written behind its key."""
    if value and not re.search(r'[\s"\\]', value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def search_of(text: str, now: float, *, limit: int = 50, cursor: str | None = None) -> Search:
    """Return a query, read.

    Args:
        text: As it was written.
        now: The time, in seconds since 1970.
        limit: How many jobs a page has.
        cursor: Where the page begins.
    """
    text = text.strip()[:_LONGEST]
    read = _Read()
    try:
        job_id = _id_of(text)
        for found in _TERM.finditer(text):
            _take(read, found, datetime.fromtimestamp(now, UTC))
        if read.words:
            read.given["text"] = " ".join(read.words)
        query = JobQuery(**read.given, limit=limit, cursor=cursor)
    except _OddError as error:
        return Search(text, read.terms, None, str(error))
    except ValidationError as error:
        return Search(text, read.terms, None, _in_words(error))
    return Search(text, read.terms, query, hint=read.hint, job_id=job_id)


def _take(read: _Read, found: re.Match[str], now: datetime) -> None:
    key, raw = found[1], found[2]
    if key is not None and key.lower() not in KEYS:
        # Names of tasks have colons too.
        read.hint = f"“{key}:” is no filter, so “{found[0]}” is searched for as text."
        key, raw = None, found[0]
    value = _unquoted(raw)
    if key is None:
        read.terms.append(Term("text", value, found[0]))
        read.words.append(value)
        return
    key = key.lower()
    read.terms.append(Term(key, value, found[0]))
    name = _FIELDS.get(key, key)
    if key == "state":
        read.given.setdefault("state", []).extend(_states(value))
        return
    if name in read.given:
        raise _OddError(f"Write {key}: only once; all that is written must hold.")
    read.given[name] = _moment(key, value, now) if key in ("after", "before") else value


def _states(value: str) -> Sequence[ShownState]:
    try:
        return [ShownState(each) for each in value.lower().split(",") if each]
    except ValueError:
        known = ", ".join(state.value for state in ShownState)
        raise _OddError(f"There is no state “{value}”. Write one of {known}.") from None


def _moment(key: str, value: str, now: datetime) -> str:
    back = _SPAN.fullmatch(value)
    try:
        if back is not None:
            found = now - timedelta(seconds=int(back[1]) * _SECONDS[back[2]])
        elif value in ("today", "yesterday"):
            days = timedelta(days=int(value == "yesterday"))
            found = now.replace(hour=0, minute=0, second=0, microsecond=0) - days
        else:
            found = datetime.fromisoformat(value)
            found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return found.isoformat()
    except (ValueError, OverflowError):
        raise _OddError(
            f"{key}:{value} is no time. Write {key}:2h, {key}:3d, {key}:today, or a date and time "
            f"in UTC such as {key}:2030-01-31T12:00."
        ) from None


def _unquoted(raw: str) -> str:
    if len(raw) > 1 and raw[0] == raw[-1] == '"':
        return re.sub(r"\\(.)", r"\1", raw[1:-1])
    return raw


def _id_of(text: str) -> str | None:
    try:
        return str(UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "query"
    return f"{name}: {first['msg']}."
