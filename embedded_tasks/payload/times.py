"""Dates, times, durations and time zones.

What lives here: their tagged forms, both ways. What does not: other single values (`scalars`).
Called by `codec`.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import pydantic_core

from embedded_tasks.payload.core import TAG, Decode, Encode, Encoder, Node, Path, Resolver, held
from embedded_tasks.payload.scalars import parts_in, text_in, text_of

__all__ = ["DECODERS", "ENCODERS"]

_MICROSECOND: Final = timedelta(microseconds=1)


def _date(_encoder: Encoder, value: date, _path: Path) -> object:
    return {TAG: "date", "v": value.isoformat()}


def _clock(tag: str) -> Encode:
    def encode(encoder: Encoder, value: datetime | time, path: Path) -> object:
        node = {TAG: tag, "v": value.replace(tzinfo=None).isoformat()}
        zone = value.tzinfo
        if zone is not None:
            return {
                **node,
                "tz": encoder.encode(zone, (path, "attribute", "tzinfo")),
                **({"fold": value.fold} if value.fold else {}),
            }
        return {**node, "fold": value.fold} if value.fold else node

    return encode


def _timedelta(_encoder: Encoder, value: timedelta, _path: Path) -> object:
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _timezone(_encoder: Encoder, value: timezone, _path: Path) -> object:
    parts: Any = value.__reduce__()  # what pickle would keep: the offset, and the name if given
    offset, *name = parts[1]
    node: dict[str, object] = {TAG: "timezone", "v": offset // _MICROSECOND}
    return {**node, "name": text_of(name[0])} if name else node


def _zone(encoder: Encoder, value: ZoneInfo, path: Path) -> object:
    try:
        value.__reduce__()  # refuses one that was read from a file
    except Exception:  # noqa: BLE001 - a class of pickle's, whose module must not be needed here
        encoder.refuse(path, "this time zone was read from a file", "Use ZoneInfo(key).")
    return {TAG: "zoneinfo", "v": text_of(str(value.key))}


def _pydantic_zone(_encoder: Encoder, value: tzinfo, _path: Path) -> object:
    """Encode the fixed offset of a datetime that pydantic has parsed."""
    offset = value.utcoffset(None) or timedelta()
    return {TAG: "pydantic_tz", "v": offset // timedelta(seconds=1)}


def _number(node: Node) -> int:
    number = node["v"]
    if type(number) is not int:
        raise held(f"The stored text is damaged: {node[TAG]!r} holds no number")
    return number


def _decode_date(node: Node, _resolver: Resolver) -> object:
    return date.fromisoformat(text_in(node))


def _decode_datetime(node: Node, _resolver: Resolver) -> object:
    naive = datetime.fromisoformat(text_in(node))
    return naive.replace(tzinfo=node.get("tz"), fold=node.get("fold", 0))


def _decode_time(node: Node, _resolver: Resolver) -> object:
    naive = time.fromisoformat(text_in(node))
    return naive.replace(tzinfo=node.get("tz"), fold=node.get("fold", 0))


def _decode_timedelta(node: Node, _resolver: Resolver) -> object:
    return timedelta(*parts_in(node, int, 3))


def _decode_timezone(node: Node, _resolver: Resolver) -> object:
    offset = _number(node) * _MICROSECOND
    return timezone(offset, text_in(node, "name")) if "name" in node else timezone(offset)


def _decode_zone(node: Node, _resolver: Resolver) -> object:
    return ZoneInfo(text_in(node))


def _decode_pydantic_zone(node: Node, _resolver: Resolver) -> object:
    return pydantic_core.TzInfo(_number(node))


ENCODERS: Final[dict[type, Encode]] = {
    date: _date,
    datetime: _clock("datetime"),
    time: _clock("time"),
    timedelta: _timedelta,
    timezone: _timezone,
    ZoneInfo: _zone,
    pydantic_core.TzInfo: _pydantic_zone,
}

DECODERS: Final[dict[str, Decode]] = {
    "date": _decode_date,
    "datetime": _decode_datetime,
    "time": _decode_time,
    "timedelta": _decode_timedelta,
    "timezone": _decode_timezone,
    "zoneinfo": _decode_zone,
    "pydantic_tz": _decode_pydantic_zone,
}
