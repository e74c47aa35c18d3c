"""How pages write numbers, times, sizes and values.

What lives here: the filters of the templates. What does not: HTML. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = [
    "FILTERS",
    "ago",
    "amount",
    "brief",
    "clock",
    "cut",
    "iso",
    "kind",
    "long",
    "percent",
    "plain",
    "size",
    "span",
    "utc",
    "when",
]

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_SIZES: Final = ("B", "KB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000
_BRIEF: Final = 8
_LONG: Final = 400
_LINES: Final = 8
_NOTHING: Final = "\N{EN DASH}"


def span(seconds: float | None) -> str:
    """Return a length of time in words, such as "320 ms", "4.2 s" or "3 h 5 min"."""
    if seconds is None:
        return _NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for index, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            text = f"{whole:.0f} {unit}"
            if index == len(_UNITS) - 1:
                return text if whole >= 10 or rest < 1 else f"{text} {rest:.0f} s"
            finer, name = _UNITS[index + 1]
            return text if rest < finer else f"{text} {rest // finer:.0f} {name}"
    return f"{seconds:.0f} s"


def ago(at: float | datetime | None, now: float) -> str:
    """Return how long ago, or in how long, in a word or two."""
    if at is None:
        return _NOTHING
    past = now - (at.timestamp() if isinstance(at, datetime) else at)
    seconds = abs(past)
    if seconds < 5:
        return "now"
    text = f"{seconds:.0f} s"
    for length, unit in _UNITS:
        if seconds >= length:
            # What is to come is not 1 h away when it is 119 minutes away.
            text = f"{seconds // length if past > 0 else round(seconds / length):.0f} {unit}"
            break
    return f"{text} ago" if past > 0 else f"in {text}"


def amount(value: Any) -> str:
    """Return a count, with a plus where counting stopped."""
    if value is None:
        return _NOTHING
    if isinstance(value, int | float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    count, more = getattr(value, "count", None), getattr(value, "capped", False)
    return str(value) if not isinstance(count, int) else f"{count:,}{'+' if more else ''}"


def size(value: float | None) -> str:
    """Return a size in bytes in words."""
    if value is None:
        return "not known"
    number = float(value)
    for unit in _SIZES[:-1]:
        if number < _THOUSAND:
            return (
                f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
            )
        number /= _THOUSAND
    return f"{number:.1f} {_SIZES[-1]}"


def percent(share: float | None) -> str:
    """Return a share; 100 % only when it is all of it."""
    if share is None:
        return _NOTHING
    if 0.995 <= share < 1:
        return "99+ %"
    return "< 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def when(at: float | datetime) -> datetime:
    """Return a time in UTC."""
    if isinstance(at, datetime):
        return at
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC)


def iso(at: float | datetime) -> str:
    """Return a time for the attribute of a `time` element."""
    return when(at).isoformat(timespec="seconds").replace("+00:00", "Z")


def utc(at: float | datetime) -> str:
    """Return a time as people read it."""
    return when(at).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: float | datetime) -> str:
    """Return the time of day, to the millisecond, as a log shows it."""
    return when(at).strftime("%H:%M:%S.%f")[:-3]


def plain(value: Any) -> str:
    """Return a value as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def brief(id: str) -> str:
    """Return the end of an id: its beginning is a time that neighbours share."""
    return id[-_BRIEF:]


def long(text: str) -> bool:
    """Return whether a text needs a box of its own that scrolls."""
    return len(text) > _LONG or text.count("\n") >= _LINES


def cut(text: str, longest: int = _LONG) -> str:
    """Return the beginning of a text that is shown whole elsewhere."""
    return text if len(text) <= longest else f"{text[:longest].rstrip()}…"


def kind(schema: Mapping[str, Any]) -> str:
    """Return the type of a parameter, out of its JSON schema, in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    several = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(several, list):
        return " | ".join(kind(each) for each in several if isinstance(each, Mapping))
    found = str(schema.get("type", "any"))
    items = schema.get("items")
    return f"{found} of {kind(items)}" if isinstance(items, Mapping) and items else found


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "amount": amount,
    "brief": brief,
    "clock": clock,
    "cut": cut,
    "iso": iso,
    "kind": kind,
    "long": long,
    "percent": percent,
    "plain": plain,
    "size": size,
    "span": span,
    "utc": utc,
}
