"""A function's parameters as JSON schema, for people and forms.

What lives here: names, types and defaults, as far as pydantic can tell them. What does not:
checking arguments. Used by `signature.py`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import to_jsonable_python

__all__ = ["schema_of"]

_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def schema_of(signature: inspect.Signature, function: Any) -> dict[str, Any]:
    """Return a JSON schema of an object with a property for each parameter.

    A type that JSON has no word for has no "type", but a "description" that names it.

    Args:
        signature: The parameters that callers fill in.
        function: Whose annotations they have.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001  # a name that is imported for type checkers only
        hints = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in signature.parameters.items():
        found = _property(hints.get(name, parameter.annotation), parameter)
        if parameter.kind in _VARIADIC:
            found = {"type": "array" if parameter.kind is _VARIADIC[0] else "object"}
        elif parameter.default is parameter.empty:
            required.append(name)
        properties[name] = found
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _property(annotation: Any, parameter: inspect.Parameter) -> dict[str, Any]:
    found: dict[str, Any] = dict(_typed(annotation))
    if parameter.default is not parameter.empty:
        try:
            found["default"] = to_jsonable_python(parameter.default)
        except Exception:  # noqa: BLE001  # a default may be of any class
            found["description"] = f"default: {type(parameter.default).__name__}"
    return found


def _typed(annotation: Any) -> Mapping[str, Any]:
    if annotation is inspect.Parameter.empty:
        return {}
    if isinstance(annotation, str):
        return {"description": annotation}
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            annotation, config=ConfigDict(arbitrary_types_allowed=True)
        )
    except Exception:  # noqa: BLE001  # a model brings its own config, and refuses ours
        adapter = _plain(annotation)
    try:
        return adapter.json_schema()
    except Exception:  # noqa: BLE001  # pydantic cannot tell
        return {"description": getattr(annotation, "__name__", str(annotation))}


def _plain(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  # as above
        return TypeAdapter(Any)
