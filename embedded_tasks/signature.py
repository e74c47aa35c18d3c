"""How a function is called: its arity, the types of its parameters, and where its context goes.

What lives here: `Signature`. What does not: names and policy. Used by `task.py` only.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.schema import schema_of

__all__ = ["Signature"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_OPTIONAL = re.compile(r"^(?:\w+\.)?Optional\[(.+)\]$")


class Signature:
    """A function's parameters, without the one that gets the job's context.

    Args:
        function: The function.
        context_type: A parameter annotated with this class, alone or `| None`, is filled in at
            each attempt.
    """

    def __init__(self, function: Callable[..., Any], context_type: type) -> None:
        self._function = function
        self._context: tuple[int, str] | None = None
        self._validators: dict[str, TypeAdapter[Any]] | None = None
        try:
            whole = inspect.signature(function)
        except (TypeError, ValueError):
            # Some functions written in C do not tell; then nothing can be checked.
            self._parameters: inspect.Signature | None = None
            return
        parameters = list(whole.parameters.values())
        for index, parameter in enumerate(parameters):
            if self._is_context(parameter.annotation, context_type):
                self._context = (index, parameter.name)
                del parameters[index]
                break
        self._parameters = whole.replace(parameters=parameters)
        self._plain = self._plain_arity(parameters)

    @property
    def wants_context(self) -> bool:
        """Whether there is a parameter for the job's context."""
        return self._context is not None

    @property
    def positional(self) -> tuple[str, ...] | None:
        """The names of positional parameters, a last one like "*rest"; None if it does not tell."""
        if self._parameters is None:
            return None
        parameters = self._parameters.parameters.values()
        return tuple(
            f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name
            for p in parameters
            if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)
        )

    def schema(self) -> dict[str, Any] | None:
        """Return the parameters as JSON schema, as far as pydantic can tell; None if unknown."""
        if self._parameters is None:
            return None
        return schema_of(self._parameters, _code_of(self._function))

    @staticmethod
    def _plain_arity(parameters: list[inspect.Parameter]) -> tuple[int, int] | None:
        """Return how few and how many positional arguments fit, where that is all there is."""
        if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
            return None
        return sum(p.default is p.empty for p in parameters), len(parameters)

    def _is_context(self, annotation: object, context_type: type) -> bool:
        """Return whether an annotation is the context's class, or that class `| None`."""
        if isinstance(annotation, str):
            # Resolved by name: the rest of the annotations need not be resolvable.
            namespace = getattr(_code_of(self._function), "__globals__", {})
            text = _OPTIONAL.sub(r"\1", annotation)
            return any(_named(part.strip(), namespace) is context_type for part in text.split("|"))
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            return context_type in typing.get_args(annotation)
        return annotation is context_type

    def problem(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, check_types: bool
    ) -> str | None:
        """Return what is wrong with these arguments in words, or None."""
        if self._parameters is None:
            return None
        if not check_types and not kwargs and self._plain is not None:
            low, high = self._plain
            if low <= len(args) <= high:
                return None
        try:
            bound = self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            return f"{error} (the function takes {self._parameters})"
        return self._type_problem(bound) if check_types else None

    def with_context(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], context: object
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the context in its place."""
        if self._context is None:
            return args, kwargs
        index, name = self._context
        if len(args) >= index and name not in kwargs:
            parameter = inspect.signature(self._function).parameters[name]
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                return (*args[:index], context, *args[index:]), kwargs
        return args, {**kwargs, name: context}

    def _type_problem(self, bound: inspect.BoundArguments) -> str | None:
        if self._validators is None:
            self._validators = self._build_validators(bound.signature.parameters)
        for name, value in bound.arguments.items():
            validator = self._validators.get(name)
            if validator is None:
                continue
            try:
                validated = validator.validate_python(value, strict=True)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                place = "".join(f"[{part!r}]" for part in first["loc"])
                return f"argument {name}{place}: {first['msg']}, got {type(value).__name__}"
            made = _made_of_a_dict(value, validated)
            if made:
                return f"argument {name}: Input should be an instance of {made}, got dict"
        return None

    def _build_validators(
        self, parameters: Mapping[str, inspect.Parameter]
    ) -> dict[str, TypeAdapter[Any]]:
        function = _code_of(self._function)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except Exception as error:
            raise ConfigurationError(
                f"the annotations of {function.__qualname__} cannot be resolved: {error}. Import "
                "what they name at the top of the module, outside TYPE_CHECKING."
            ) from error
        return {
            name: _adapter(hints[name])
            for name, parameter in parameters.items()
            if name in hints and hints[name] is not Any and parameter.kind not in _VARIADIC
        }


def _code_of(function: Callable[..., Any]) -> Any:
    """Return the plain function that is called: for a callable object, its class's `__call__`."""
    found = inspect.unwrap(function)
    if hasattr(found, "__globals__"):
        return found
    return inspect.getattr_static(type(found), "__call__", found)


def _named(name: str, namespace: Mapping[str, Any]) -> object:
    root, *attributes = name.split(".")
    found = namespace.get(root)
    for attribute in attributes:
        found = getattr(found, attribute, None)
    return found


def _made_of_a_dict(value: object, validated: object) -> str:
    """Return the class that pydantic has made of a dict, which the function would get as a dict."""
    if isinstance(value, dict):
        if not isinstance(validated, dict):
            return type(validated).__name__
        pairs = [(item, validated[key]) for key, item in value.items() if key in validated]
    elif isinstance(value, list | tuple) and isinstance(validated, list | tuple):
        pairs = list(zip(value, validated, strict=False))
    else:
        return ""
    return next(filter(None, (_made_of_a_dict(*pair) for pair in pairs)), "")


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation)
    except PydanticSchemaGenerationError:
        # A class that pydantic does not know: an instance of it is what is wanted.
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        raise ConfigurationError(f"{annotation!r} cannot be checked: {error}") from error
