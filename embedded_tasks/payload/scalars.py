"""Single values: numbers, text, bytes, ids, paths and addresses.

What lives here: their tagged forms, both ways. What does not: dates (`times`). Called by `codec`.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import pathlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

import pydantic.networks
import pydantic_core

from embedded_tasks.payload.core import TAG, Decode, Encode, Encoder, Node, Path, Resolver, held

__all__ = [
    "DECODERS",
    "ENCODERS",
    "LARGEST",
    "is_clean",
    "object_of",
    "parts_in",
    "text_in",
    "text_of",
]

LARGEST: Final = 2**63 - 1
"""The largest int that is written as a number; the smallest is one below its opposite."""

_NOT_FINITE: Final = frozenset({"nan", "-nan", "inf", "-inf"})


def is_clean(text: str) -> bool:
    """Tell whether JSON gives a text back: two surrogates side by side become one character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(text: str) -> object:
    """Return a str as JSON can hold it."""
    if is_clean(text):
        return text
    return {TAG: "str", "v": _base64(text.encode("utf-8", "surrogatepass"))}


def object_of(pairs: list[tuple[str, object]]) -> object:
    """Return encoded values under names as JSON can hold them."""
    if all(name != TAG and is_clean(name) for name, _ in pairs):
        return dict(pairs)
    return {TAG: "dict", "v": [[text_of(name), value] for name, value in pairs]}


def text_in(node: Node, key: str = "v") -> str:
    """Return a str from a tagged value.

    Raises:
        PayloadError: It is something else.
    """
    text = node[key]
    if type(text) is not str:
        raise held(f"The stored text is damaged: {node[TAG]!r} holds no text")
    return text


def parts_in(node: Node, part: type, count: int) -> list[Any]:
    """Return so many numbers of one type from a tagged value.

    Raises:
        PayloadError: It is something else.
    """
    parts = node["v"]
    if type(parts) is not list or [type(each) for each in parts] != [part] * count:
        raise held(f"The stored text is damaged: {node[TAG]!r} does not hold {count} numbers")
    return parts


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(node: Node) -> bytes:
    return base64.b64decode(text_in(node), validate=True)


def _plain(_encoder: Encoder, value: object, _path: Path) -> object:
    return value


def _text(_encoder: Encoder, value: str, _path: Path) -> object:
    return text_of(value)


def _int(_encoder: Encoder, value: int, _path: Path) -> object:
    # Hexadecimal has no limit of digits (`sys.set_int_max_str_digits`).
    return value if -LARGEST - 1 <= value <= LARGEST else {TAG: "int", "v": hex(value)}


def _float(_encoder: Encoder, value: float, _path: Path) -> object:
    if math.isfinite(value):
        return value
    sign = "-" if math.copysign(1, value) < 0 else ""
    return {TAG: "float", "v": f"{sign}{'nan' if math.isnan(value) else 'inf'}"}


def _complex(encoder: Encoder, value: complex, path: Path) -> object:
    parts = [_float(encoder, value.real, path), _float(encoder, value.imag, path)]
    return {TAG: "complex", "v": parts}


def _fraction(encoder: Encoder, value: Fraction, path: Path) -> object:
    parts = [_int(encoder, value.numerator, path), _int(encoder, value.denominator, path)]
    return {TAG: "fraction", "v": parts}


def _range(encoder: Encoder, value: range, path: Path) -> object:
    parts = [_int(encoder, part, path) for part in (value.start, value.stop, value.step)]
    return {TAG: "range", "v": parts}


def _as_text(tag: str) -> Encode:
    def encode(_encoder: Encoder, value: object, _path: Path) -> object:
        return {TAG: tag, "v": str(value)}

    return encode


def _as_base64(tag: str) -> Encode:
    def encode(_encoder: Encoder, value: bytes | bytearray, _path: Path) -> object:
        return {TAG: tag, "v": _base64(value)}

    return encode


def _by_text(tag: str, kinds: dict[str, Any]) -> tuple[Encode, Decode]:
    """Return both ways for classes that are made from the text they show as."""

    def encode(encoder: Encoder, value: object, path: Path) -> object:
        kind = type(value)
        text = str(value)
        try:
            again = kinds[kind.__name__](text)
        except ValueError:
            again = None
        if again != value:
            encoder.refuse(
                path,
                f"this {kind.__name__} would not come back as it is",
                "Pass it as a str, and let the task make the object.",
            )
        return {TAG: tag, "c": kind.__name__, "v": text_of(text)}

    def decode(node: Node, _resolver: Resolver) -> object:
        return kinds[text_in(node, "c")](text_in(node))

    return encode, decode


def _decode_int(node: Node, _resolver: Resolver) -> object:
    return int(text_in(node), 16)


def _decode_float(node: Node, _resolver: Resolver) -> object:
    text = text_in(node)
    if text not in _NOT_FINITE:
        raise held(f"The stored text is damaged: {text[:20]!r} is no number")
    return float(text)


def _decode_parts(kind: type, part: type, count: int) -> Decode:
    def decode(node: Node, _resolver: Resolver) -> object:
        return kind(*parts_in(node, part, count))

    return decode


def _decode_text(kind: Callable[[str], object]) -> Decode:
    def decode(node: Node, _resolver: Resolver) -> object:
        return kind(text_in(node))

    return decode


def _decode_str(node: Node, _resolver: Resolver) -> object:
    return _bytes(node).decode("utf-8", "surrogatepass")


def _decode_bytes(node: Node, _resolver: Resolver) -> object:
    return _bytes(node)


def _decode_bytearray(node: Node, _resolver: Resolver) -> object:
    return bytearray(_bytes(node))


# A Windows path cannot be made here, and a POSIX path cannot be made there.
_PATHS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (
        pathlib.PosixPath,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.WindowsPath,
    )
}
_ADDRESSES: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (
        ipaddress.IPv4Address,
        ipaddress.IPv4Interface,
        ipaddress.IPv4Network,
        ipaddress.IPv6Address,
        ipaddress.IPv6Interface,
        ipaddress.IPv6Network,
    )
}
# In older releases of pydantic HttpUrl and the like are annotations of the core's classes.
_URLS: Final[dict[str, Any]] = {
    "Url": pydantic_core.Url,
    "MultiHostUrl": pydantic_core.MultiHostUrl,
    **{
        name: kind
        for name, kind in vars(pydantic.networks).items()
        if isinstance(kind, type)
        and kind.__module__ == pydantic.networks.__name__
        and name.endswith(("Url", "Dsn"))
        and not name.startswith("_")
    },
}

_encode_path, _decode_path = _by_text("path", _PATHS)
_encode_address, _decode_address = _by_text("ip", _ADDRESSES)
_encode_url, _decode_url = _by_text("url", _URLS)

ENCODERS: Final[dict[type, Encode]] = {
    type(None): _plain,
    bool: _plain,
    str: _text,
    int: _int,
    float: _float,
    complex: _complex,
    Fraction: _fraction,
    range: _range,
    bytes: _as_base64("bytes"),
    bytearray: _as_base64("bytearray"),
    Decimal: _as_text("decimal"),
    UUID: _as_text("uuid"),
    **dict.fromkeys(_PATHS.values(), _encode_path),
    **dict.fromkeys(_ADDRESSES.values(), _encode_address),
    **dict.fromkeys(_URLS.values(), _encode_url),
}

DECODERS: Final[dict[str, Decode]] = {
    "str": _decode_str,
    "int": _decode_int,
    "float": _decode_float,
    "complex": _decode_parts(complex, float, 2),
    "fraction": _decode_parts(Fraction, int, 2),
    "range": _decode_parts(range, int, 3),
    "bytes": _decode_bytes,
    "bytearray": _decode_bytearray,
    "decimal": _decode_text(Decimal),
    "uuid": _decode_text(UUID),
    "path": _decode_path,
    "ip": _decode_address,
    "url": _decode_url,
}
