"""Lists, tuples, sets and dicts, and their relatives in `collections`.

What lives here: their tagged forms, both ways. What does not: namedtuples (`classes`). Called by
`codec`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sized
from typing import Any, Final, TypeVar

from embedded_tasks.payload.core import (
    TAG,
    Decode,
    Encode,
    Encoder,
    Node,
    Path,
    Resolver,
    class_of,
    held,
)
from embedded_tasks.payload.scalars import object_of

Made = TypeVar("Made", bound=Sized)

__all__ = ["DECODERS", "ENCODERS"]


def _list(encoder: Encoder, value: list[Any], path: Path) -> object:
    return _items(encoder, value, path)


def _items(encoder: Encoder, values: Iterable[Any], path: Path) -> list[object]:
    return [encoder.encode(item, (path, "item", index)) for index, item in enumerate(values)]


def _sequence(tag: str) -> Encode:
    def encode(encoder: Encoder, value: Iterable[Any], path: Path) -> object:
        return {TAG: tag, "v": _items(encoder, value, path)}

    return encode


def _set(tag: str) -> Encode:
    def encode(encoder: Encoder, value: Collection[Any], path: Path) -> object:
        return {TAG: tag, "v": [encoder.encode(item, (path, "element", None)) for item in value]}

    return encode


def _deque(encoder: Encoder, value: deque[Any], path: Path) -> object:
    return {TAG: "deque", "v": _items(encoder, value, path), "max": value.maxlen}


def _dict(encoder: Encoder, value: dict[Any, Any], path: Path) -> object:
    if all(type(key) is str for key in value):
        return object_of(
            [(key, encoder.encode(item, (path, "item", key))) for key, item in value.items()]
        )
    return {TAG: "dict", "v": _pairs(encoder, value, path)}


def _pairs(encoder: Encoder, value: dict[Any, Any], path: Path) -> list[object]:
    if getattr(value, "__dict__", None):
        encoder.refuse(
            path,
            f"attributes were set on this {type(value).__name__}",
            "Pass a plain dict, or a dataclass.",
        )
    return [
        [encoder.encode(key, (path, "key", key)), encoder.encode(item, (path, "item", key))]
        for key, item in value.items()
    ]


def _mapping(tag: str) -> Encode:
    def encode(encoder: Encoder, value: dict[Any, Any], path: Path) -> object:
        return {TAG: tag, "v": _pairs(encoder, value, path)}

    return encode


def _defaultdict(encoder: Encoder, value: defaultdict[Any, Any], path: Path) -> object:
    factory: object = value.default_factory
    if factory is not None and not isinstance(factory, type):
        encoder.refuse(
            path,
            "its default_factory is no class",
            "Pass dict(value), or use a class such as list or int.",
        )
    name = None if factory is None else encoder.name_of(factory, path, "its default_factory ")
    return {TAG: "defaultdict", "c": name, "v": _pairs(encoder, value, path)}


def _list_in(node: Node) -> list[Any]:
    items = node["v"]
    if type(items) is not list:
        raise held(f"The stored text is damaged: {node[TAG]!r} holds no list")
    return items


def _decode_tuple(node: Node, _resolver: Resolver) -> object:
    return tuple(_list_in(node))


def _decode_set(kind: Callable[[list[Any]], Collection[Any]]) -> Decode:
    def decode(node: Node, _resolver: Resolver) -> object:
        items = _list_in(node)
        return _same_size(kind(items), items)

    return decode


def _decode_deque(node: Node, _resolver: Resolver) -> object:
    items = _list_in(node)
    return _same_size(deque(items, node["max"]), items)


def _decode_dict(kind: Callable[[dict[Any, Any]], dict[Any, Any]]) -> Decode:
    def decode(node: Node, _resolver: Resolver) -> object:
        pairs = _list_in(node)
        return kind(_same_size(dict(pairs), pairs))

    return decode


def _decode_defaultdict(node: Node, resolver: Resolver) -> object:
    factory = None if node["c"] is None else class_of(node, resolver, object)
    pairs = _list_in(node)
    return defaultdict(factory, _same_size(dict(pairs), pairs))


def _same_size(made: Made, items: list[Any]) -> Made:
    """Refuse a set or dict that has lost elements, because the class of two now says equal."""
    if len(made) != len(items):
        raise held("Elements of a stored set or dict, which differed, are equal now")
    return made


ENCODERS: Final[dict[type, Encode]] = {
    list: _list,
    tuple: _sequence("tuple"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    deque: _deque,
    dict: _dict,
    OrderedDict: _mapping("ordereddict"),
    Counter: _mapping("counter"),
    defaultdict: _defaultdict,
}

DECODERS: Final[dict[str, Decode]] = {
    "tuple": _decode_tuple,
    "set": _decode_set(set),
    "frozenset": _decode_set(frozenset),
    "deque": _decode_deque,
    "dict": _decode_dict(dict),
    "ordereddict": _decode_dict(OrderedDict),
    "counter": _decode_dict(Counter),
    "defaultdict": _decode_defaultdict,
}
