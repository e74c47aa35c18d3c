"""What every part of the codec shares.

What lives here: the resolver's shape, the walk over a value with its path, and tags' helpers. What
does not: any type's own form. Called by the other modules of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeAlias

from embedded_tasks.errors import (
    NotDurableError,
    PayloadError,
    PayloadTooLargeError,
    UnknownTaskError,
)

__all__ = [
    "DEEPEST",
    "TAG",
    "Decode",
    "Encode",
    "Encoder",
    "Node",
    "Path",
    "Resolver",
    "class_of",
    "held",
    "render",
]

TAG: Final = "$"
"""The key that makes a JSON object a tagged value."""
DEEPEST: Final = 100
"""How deep values may be nested."""

_LONGEST_KEY: Final = 40
_LARGEST_KEY: Final = 10**15  # printing a huge int takes for ever, or fails


class Resolver(Protocol):
    """Who gives names to classes and functions, and finds them again."""

    def name_of(self, obj: object) -> str:
        """Return "module:qualname"; raise NotDurableError where there is no such name."""
        ...

    def resolve(self, name: str) -> object:
        """Return the object of that name; raise UnknownTaskError where there is none."""
        ...


Path: TypeAlias = tuple[Any, str, Any]
"""Where a value is: (path of what contains it, kind of step, key); rendered only for an error."""
Node: TypeAlias = Mapping[str, Any]
"""A tagged value as read from JSON; what it contains is decoded already."""
Encode: TypeAlias = Callable[["Encoder", Any, Path], object]
Decode: TypeAlias = Callable[[Node, Resolver], object]


class Encoder:
    """One walk over one value.

    Args:
        resolver: Gives names to classes and functions.
        leaves: What to do with each exact type that contains no other values.
        branch: Returns what to do with any other value; for one to refuse, that is refusing it.
        limit: The most bytes that the text may have; None for no limit.
        whole: What the text is of, for the error.
    """

    def __init__(
        self,
        resolver: Resolver,
        leaves: Mapping[type, Encode],
        branch: Callable[[object], Encode],
        limit: int | None,
        whole: str,
    ) -> None:
        self._resolver = resolver
        self._leaves = leaves
        self._branch = branch
        self._limit = limit
        self._whole = whole
        self._open: set[int] = set()
        self._count = 0

    def encode(self, value: object, path: Path) -> object:
        """Return what JSON can hold of a value, tagged where needed.

        Args:
            value: Anything.
            path: Where it is.

        Raises:
            NotDurableError: It would not come back as it is.
            PayloadTooLargeError: There are more values than the limit has bytes.
        """
        self._count += 1
        if self._limit is not None and self._count > self._limit:
            raise PayloadTooLargeError(self._whole, self._count, self._limit)
        leaf = self._leaves.get(type(value))
        if leaf is not None:
            return leaf(self, value, path)
        key = id(value)
        if key in self._open:
            self.refuse(path, "it contains itself", "Pass ids in place of the objects.")
        if len(self._open) >= DEEPEST:
            self.refuse(
                path,
                f"it is nested deeper than {DEEPEST} levels",
                "Pass a flatter value, or store it in a file or table and pass its path or id.",
            )
        self._open.add(key)
        try:
            return self._branch(value)(self, value, path)
        finally:
            self._open.discard(key)

    def name_of(self, obj: object, path: Path, what: str = "") -> str:
        """Return the name of a class or function, or refuse the value that needs it.

        Args:
            obj: The class or function.
            path: Where the value is.
            what: Begins the reason, such as "its class ".
        """
        try:
            return self._resolver.name_of(obj)
        except NotDurableError as error:
            self.refuse(path, f"{what}{error.where} has no name ({error.reason})", error.remedy)

    def refuse(self, path: Path, reason: str, remedy: str) -> NoReturn:
        """Raise NotDurableError for the value at a path."""
        raise NotDurableError(render(path), reason, remedy)


def render(path: Path) -> str:
    """Return a path for people: `send_mail(args[1]['user'][3])`, `send_mail(..., session=)`."""
    steps: list[str] = []
    while path[0] is not None:
        path, kind, key = path
        steps.append(_step(kind, key))
    _, kind, key = path
    inside = "".join(reversed(steps))
    if kind == "positional":
        return f"{key[0]}(args[{key[1]}]{inside})"
    if kind == "keyword":
        return f"{key[0]}(..., {key[1]}{inside or '='})"
    return f"{key}{inside}"


def _step(kind: str, key: object) -> str:
    if kind == "attribute":
        return f".{key}"
    if kind == "element":
        return "{...}"
    if isinstance(key, str | bytes):
        shown = repr(key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY])
    else:
        small = isinstance(key, int | float) and abs(key) < _LARGEST_KEY
        shown = repr(key) if small else type(key).__name__
    return f".keys()[{shown}]" if kind == "key" else f"[{shown}]"


def held(reason: str) -> PayloadError:
    """Return the error for a stored text that this code cannot read."""
    return PayloadError(f"{reason}. The job is held until code that can read it is there.")


def class_of(node: Node, resolver: Resolver, base: type) -> Any:
    """Return the class that a tagged value names, if it is what the tag says.

    Args:
        node: The tagged value.
        resolver: Finds the class.
        base: The class must be this one or below it.

    Raises:
        PayloadError: The class is gone, or something else.
    """
    name = node["c"]
    if type(name) is not str:
        raise held("The stored text names no class")
    try:
        found = resolver.resolve(name)
    except UnknownTaskError as error:
        raise held(f"The class {error.task} of a stored value is gone: {error.reason}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise held(f"{name} is no longer a class of the kind {node[TAG]!r}")
    return found
