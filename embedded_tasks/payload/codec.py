"""The text of arguments and results, written and read.

What lives here: the four public functions and the fast way for plain JSON values. What does not:
the forms of types, which are in the modules beside this. Called through `payload`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final, NoReturn

from embedded_tasks.errors import PayloadError, PayloadTooLargeError
from embedded_tasks.payload import classes, containers, scalars, times
from embedded_tasks.payload.core import TAG, Decode, Encode, Encoder, Path, Resolver, held
from embedded_tasks.payload.refusals import refusal_of

__all__ = ["decode", "decode_arguments", "encode", "encode_arguments"]

_VERSION: Final = 1
_LEAVES: Final[Mapping[type, Encode]] = {**scalars.ENCODERS, **times.ENCODERS}
_DECODERS: Final[Mapping[str, Decode]] = {
    **scalars.DECODERS,
    **times.DECODERS,
    **containers.DECODERS,
    **classes.DECODERS,
}
_TAG_IN_TEXT: Final = f'"{TAG}":'
_SURROGATE_IN_TEXT: Final = "\\ud"  # also every character beyond 16 bit, which is no harm
_SIMPLE: Final = frozenset({bool, float, int, str, type(None)})
_PLAIN: Final = _SIMPLE | {dict, list}
_TEXTS: Final = frozenset({str})
# Larger values go the slow way, which knows cycles and counts; nothing shared grows without end.
_DEEPEST_PLAIN: Final = 12
_WIDEST_PLAIN: Final = 100_000
_write: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def encode(value: object, resolver: Resolver, *, where: str = "value", limit: int | None) -> str:
    """Return a value as text that `decode` turns into an equal value of the same types.

    Args:
        value: Any value; see the package's docstring for what can be stored.
        resolver: Gives names to classes and functions.
        where: What the value is, for errors.
        limit: The most bytes the text may have; None for no limit.

    Raises:
        NotDurableError: It, or something in it, would not come back as it is.
        PayloadTooLargeError: The text is over the limit.
    """
    text = _plain_text([_VERSION, value]) if _is_plain((value,)) else None
    if text is None:
        encoder = Encoder(resolver, _LEAVES, _branch, limit, where)
        text = _write([_VERSION, encoder.encode(value, (None, "value", where))])
    return _checked(text, where, limit)


def decode(text: str, resolver: Resolver) -> object:
    """Return the value of a text made by `encode`.

    Args:
        text: The text; it may be damaged or untrusted.
        resolver: Finds classes and functions by name.

    Raises:
        PayloadError: It is damaged, or a class in it is gone or has changed.
    """
    return _read(text, resolver, 2)[1]


def encode_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], resolver: Resolver, *, task: str, limit: int
) -> str:
    """Return the arguments of a call as text that `decode_arguments` reads.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.
        resolver: Gives names to classes and functions.
        task: The function's name, for errors.
        limit: The most bytes the text may have.

    Raises:
        NotDurableError: An argument would not come back as it is; the error names its path.
        PayloadTooLargeError: The text is over the limit.
    """
    text = None
    if _is_plain(args) and _is_plain(kwargs.values()):
        text = _plain_text([_VERSION, args, kwargs])
    if text is None:
        encoder = Encoder(resolver, _LEAVES, _branch, limit, task)
        positional = [
            encoder.encode(value, (None, "positional", (task, index)))
            for index, value in enumerate(args)
        ]
        keyword = [
            (name, encoder.encode(value, (None, "keyword", (task, name))))
            for name, value in kwargs.items()
        ]
        text = _write([_VERSION, positional, scalars.object_of(keyword)])
    return _checked(text, task, limit)


def decode_arguments(text: str, resolver: Resolver) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a text made by `encode_arguments`.

    Args:
        text: The text; it may be damaged or untrusted.
        resolver: Finds classes and functions by name.

    Returns:
        The positional and the keyword arguments.

    Raises:
        PayloadError: It is damaged, or a class in it is gone or has changed.
    """
    _, args, kwargs = _read(text, resolver, 3)
    if type(args) is not list or type(kwargs) is not dict:
        raise held("The stored text is damaged: it holds no arguments")
    if kwargs and not all(type(name) is str for name in kwargs):
        raise held("The stored text is damaged: an argument has no name")
    return tuple(args), kwargs


def _checked(text: str, where: str, limit: int | None) -> str:
    if limit is not None and len(text) > limit:
        raise PayloadTooLargeError(where, len(text), limit)
    return text


def _branch(value: object) -> Encode:
    function = containers.ENCODERS.get(type(value))
    if function is None and (function := classes.encoder_of(value)) is None:
        return _refuse
    return function


def _refuse(encoder: Encoder, value: object, path: Path) -> NoReturn:
    encoder.refuse(path, *refusal_of(value))


def _is_plain(values: Iterable[Any]) -> bool:
    """Tell whether JSON as such gives values back exactly, as far as types can tell."""
    level = list(values)
    for _ in range(_DEEPEST_PLAIN):  # a level at a time, so that the loops over items run in C
        if len(level) > _WIDEST_PLAIN:
            break
        kinds = set(map(type, level))
        if int in kinds:
            numbers = level if len(kinds) == 1 else [each for each in level if type(each) is int]
            if max(numbers) > scalars.LARGEST or min(numbers) < -scalars.LARGEST:
                return False
        if kinds <= _SIMPLE:
            return True
        if not kinds <= _PLAIN:
            return False
        dicts = [each for each in level if type(each) is dict]
        if not set(map(type, chain.from_iterable(dicts))) <= _TEXTS:
            return False
        lists = [each for each in level if type(each) is list]
        level = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
    return False


def _plain_text(document: list[Any]) -> str | None:
    """Return JSON text, or None where text that JSON gives back as it is needs a tag."""
    try:
        text = _write(document)
    except ValueError:  # NaN and infinity
        return None
    return None if _TAG_IN_TEXT in text or _SURROGATE_IN_TEXT in text else text


def _read(text: str, resolver: Resolver, length: int) -> list[Any]:
    try:
        if _TAG_QUOTED in text:
            untag = functools.partial(_untag, resolver)
            document = json.loads(text, object_hook=untag, parse_constant=_refuse_constant)
        else:
            document = _read_plain(text)
    except PayloadError:
        raise
    except Exception as error:  # an untrusted text can make a constructor raise anything
        # Only JSON's own messages are shown: those of constructors repeat the argument.
        detail = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise held(f"The stored text is damaged: {type(error).__name__}{detail}") from error
    if type(document) is not list or not document or type(document[0]) is not int:
        raise held("The stored text is damaged: it does not begin with its version")
    if document[0] != _VERSION:
        raise held(
            f"The stored text has the format {document[0]}, and this release reads {_VERSION}"
        )
    if len(document) != length:
        raise held("The stored text is damaged: it has too many or too few parts")
    return document


def _untag(resolver: Resolver, node: dict[str, Any]) -> object:
    if TAG not in node:
        return node
    tag = node[TAG]
    function = _DECODERS.get(tag) if type(tag) is str else None
    if function is None:
        raise held(f"The stored text has a value of the kind {tag!r:.40}, which is not known here")
    return function(node, resolver)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# Made once: `json.loads` with an argument makes a decoder at each call.
_plain: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_TAG_QUOTED: Final = f'"{TAG}"'


def _read_plain(text: str) -> Any:
    # As `decode`, which looks for white space around it first; there is none in what we write.
    try:
        document, end = _plain.raw_decode(text)
    except json.JSONDecodeError:
        return _plain.decode(text)
    return document if end == len(text) else _plain.decode(text)
