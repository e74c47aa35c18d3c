"""Stored arguments and results as plain JSON, for people to look at.

What lives here: reading the payload format without its classes; nothing in a text is ever called,
imported or made. What does not: giving values back to tasks (`payload`). Called by `models`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from embedded_tasks.masking import MASK, Masking

__all__ = ["Display", "UnreadableError"]

_TAG: Final = "$"
_VERSION: Final = 1
_DAMAGED: Final = "The stored text is damaged, or of a newer release."
_LARGEST: Final = 1_048_576
_LONGEST_TEXT: Final = 10_000
_LONGEST_INT: Final = 20
_LONGEST_NUMBER: Final = 400
_DEEPEST: Final = 120
_ONE_CLASS: Final = frozenset({"dataclass", "model", "namedtuple"})

_T = TypeVar("_T")
_Node = Mapping[str, Any]
_Show = Callable[["Display", _Node, int], Any]


class UnreadableError(ValueError):
    """A stored text is not shown; the message says why."""


def _bytes(_display: Display, node: _Node, _depth: int) -> str:
    return f"<{len(base64.b64decode(node['v'], validate=True)):,} bytes>"


def _seconds(_display: Display, node: _Node, _depth: int) -> float:
    days, seconds, microseconds = node["v"]
    return int(days) * 86_400 + int(seconds) + int(microseconds) / 1_000_000


def _numbers(form: str) -> _Show:
    def show(display: Display, node: _Node, depth: int) -> str:
        return form.format(*(display.shown(part, depth + 1) for part in node["v"]))

    return show


def _offset(unit: int) -> _Show:
    def show(_display: Display, node: _Node, _depth: int) -> str:
        minutes = abs(node["v"]) // (60 * unit)
        sign = "-" if node["v"] < 0 else "+"
        return f"{sign}{minutes // 60:02}:{minutes % 60:02}"

    return show


class Display:
    """Shows stored values, with their secrets masked.

    Args:
        masking: Which names hold secrets.

    After `arguments` it knows the secrets that were among them, and `masking` hides those too.
    """

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._seen: set[str] = set()

    @property
    def masking(self) -> Masking:
        """Which names hold secrets, and the secrets that were seen."""
        return self._masking.knowing(self._seen)

    def arguments(
        self, text: str, parameters: Sequence[str] | None
    ) -> list[tuple[str | None, Any]]:
        """Return stored arguments as names and plain values, secrets masked.

        Args:
            text: What is stored.
            parameters: The names of the function's positional parameters, a last one like "*rest"
                for all others; None where they are not known. What has no name might be a secret,
                so it is masked.

        Raises:
            UnreadableError: The text is too large to be shown, or damaged.
        """
        _, args, kwargs = _document(text, 3)
        return _guarded(lambda: self._arguments(args, kwargs, parameters or ()))

    def result(self, text: str) -> Any:
        """Return a stored result as a plain value, secrets masked.

        Args:
            text: What is stored.

        Raises:
            UnreadableError: The text is too large to be shown, or damaged.
        """
        if text == "null":
            return None
        _, value = _document(text, 2)
        return _guarded(lambda: self.shown(value, 0))

    def _arguments(
        self, args: list[Any], kwargs: dict[str, Any], parameters: Sequence[str]
    ) -> list[tuple[str | None, Any]]:
        shown: list[tuple[str | None, Any]] = []
        rest = parameters[-1] if parameters and parameters[-1].startswith("*") else None
        for index, value in enumerate(args):
            name = parameters[index] if index < len(parameters) else rest
            shown.append((name, MASK if name is None else self._under(name, value, 0)))
        for key, value in _pairs(kwargs):
            shown.append((self._text(key), self._under(key, value, 0)))
        return shown

    def shown(self, node: Any, depth: int) -> Any:
        """Return what JSON can hold of a node, for people."""
        if depth > _DEEPEST:
            return "…"
        if isinstance(node, str):
            return self._text(node)
        if isinstance(node, float) and not math.isfinite(node):
            return str(node)
        if isinstance(node, list):
            return self._items(node, depth)
        if not isinstance(node, dict):
            return node
        if _TAG not in node:
            return {
                self._text(key): self._under(key, value, depth + 1) for key, value in node.items()
            }
        tag = node[_TAG]
        if tag in _ONE_CLASS:
            return self._fields(node, depth)
        return self._TAGGED[tag](self, node, depth)

    def _under(self, name: str, node: Any, depth: int) -> Any:
        """Return a value that has a name, which tells whether it is a secret."""
        if node is None or not self._masking.is_secret(name):
            return self.shown(node, depth)
        self._seen.update(_texts(node))
        return MASK

    def _text(self, text: str) -> str:
        text = self._masking.text(text.encode("utf-8", "backslashreplace").decode("utf-8"))
        if len(text) <= _LONGEST_TEXT:
            return text
        return f"{text[:_LONGEST_TEXT]}… ({len(text):,} characters)"

    def _items(self, items: list[Any], depth: int) -> list[Any]:
        shown = [self.shown(item, depth + 1) for item in items]
        if (
            len(items) == 2
            and all(isinstance(item, str) for item in shown)
            and self._masking.is_secret(shown[0])
        ):
            # A header, or another pair of a name and its value.
            return [shown[0], MASK]
        return shown

    def _sequence(self, node: _Node, depth: int) -> list[Any]:
        return self._items(list(node["v"]), depth)

    def _mapping(self, node: _Node, depth: int) -> Any:
        keys = [self.shown(key, depth + 1) for key, _ in node["v"]]
        names = [_key(key) for key in keys]
        # Once: a value may be a mapping itself, and so on down.
        values = [
            self._under(name, pair[1], depth + 2)
            for name, pair in zip(names, node["v"], strict=True)
        ]
        if len(set(names)) < len(names) or any(isinstance(key, list | dict) for key in keys):
            return [[key, value] for key, value in zip(keys, values, strict=True)]
        return dict(zip(names, values, strict=True))

    def _fields(self, node: _Node, depth: int) -> dict[str, Any]:
        extra = node.get("extra") or {}
        pairs = [*_pairs(node["v"]), *_pairs(extra)]
        return {self._text(name): self._under(name, value, depth + 1) for name, value in pairs}

    def _as_is(self, node: _Node, depth: int) -> Any:
        return self.shown(node["v"], depth + 1)

    def _huge(self, node: _Node, _depth: int) -> str:
        digits = str(node["v"])
        # Printing a huge number in decimal takes for ever, or fails.
        return str(int(digits, 16)) if len(digits) < _LONGEST_NUMBER else self._text(digits)

    def _moment(self, node: _Node, depth: int) -> str:
        zone = node.get("tz")
        return f"{self._text(node['v'])}{self.shown(zone, depth + 1) if zone else ''}"

    def _zone(self, node: _Node, depth: int) -> str:
        return f"[{self.shown(node['v'], depth)}]"

    def _member(self, node: _Node, _depth: int) -> str:
        return f"{self._class(node['c'])}.{self._text(str(node['v']))}"

    def _flags(self, node: _Node, _depth: int) -> str:
        names = [*map(str, node["v"]), *([str(node["rest"])] if node["rest"] else [])]
        return f"{self._class(node['c'])}.{self._text('|'.join(names))}"

    def _reference(self, node: _Node, _depth: int) -> str:
        return self._text(str(node["c"]))

    def _class(self, name: object) -> str:
        return self._text(str(name)).rpartition(":")[2]

    def _encoded(self, node: _Node, depth: int) -> Any:
        return self.shown(_decoded(node), depth)

    _TAGGED: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "str": _encoded,
        "int": _huge,
        **dict.fromkeys(("float", "decimal", "uuid", "path", "ip", "url", "date"), _as_is),
        "complex": _numbers("{} + {}j"),
        "fraction": _numbers("{}/{}"),
        "range": _numbers("range({}, {}, {})"),
        **dict.fromkeys(("bytes", "bytearray"), _bytes),
        **dict.fromkeys(("datetime", "time"), _moment),
        "timedelta": _seconds,
        "timezone": _offset(1_000_000),
        "pydantic_tz": _offset(1),
        "zoneinfo": _zone,
        **dict.fromkeys(("tuple", "set", "frozenset", "deque"), _sequence),
        **dict.fromkeys(("dict", "ordereddict", "counter", "defaultdict"), _mapping),
        "enum": _member,
        "flag": _flags,
        "ref": _reference,
    }


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts inside a value that is not shown, as they may be written elsewhere."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += [_decoded(node)] if node.get(_TAG) == "str" else node.values()
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str) or (isinstance(node, int | float) and node is not True):
            yield str(node)


def _document(text: str, length: int) -> list[Any]:
    if len(text) > _LARGEST:
        raise UnreadableError(f"It has {len(text):,} characters; that is too much to show.")
    document: object = _guarded(lambda: json.loads(text, parse_constant=str, parse_int=_integer))
    if not isinstance(document, list) or len(document) != length or document[0] != _VERSION:
        raise UnreadableError(_DAMAGED)
    return document


def _guarded(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # The file may hold anything, and a damaged value must not hide the rest of its job.
        raise UnreadableError(_DAMAGED) from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INT else digits[:_LONGEST_NUMBER]


def _pairs(node: _Node) -> list[tuple[str, Any]]:
    """Return the names and values of an object whose names JSON may not hold as they are."""
    if _TAG not in node:
        return list(node.items())
    return [(_name(key), value) for key, value in node["v"]]


def _name(key: Any) -> str:
    return _decoded(key) if isinstance(key, dict) else str(key)


def _decoded(node: _Node) -> str:
    data = base64.b64decode(node["v"], validate=True)
    return data.decode("utf-8", "surrogatepass")


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)
