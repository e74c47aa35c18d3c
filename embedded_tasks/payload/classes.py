"""Objects of the app's own classes: enums, models, dataclasses, namedtuples; and classes as such.

What lives here: their tagged forms, both ways; state is read and put back as it is, with no
`__init__` and no validator. What does not: builtin types. Called by `codec`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, EnumType, Flag
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType
from typing import Any, Final

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo, ModelPrivateAttr
from pydantic_core import PydanticUndefined

from embedded_tasks.errors import UnknownTaskError
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
from embedded_tasks.payload.refusals import is_row
from embedded_tasks.payload.scalars import object_of, text_in

__all__ = ["DECODERS", "encoder_of"]

_ITS_CLASS: Final = "its class "
_NOTHING: Final = object()
_EXTRA_STATE: Final = "Keep all of its state in fields, or pass plain values."


def encoder_of(value: object) -> Encode | None:
    """Return how to encode an object of a class that is no builtin, or None to refuse it."""
    kind = type(value)
    if isinstance(value, BaseException) or is_row(value):
        return None
    if isinstance(kind, EnumType):
        return _enum
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return _reference
    if issubclass(kind, BaseModel):
        return _model
    if dataclasses.is_dataclass(value):
        return _dataclass
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _namedtuple
    return None


def _reference(encoder: Encoder, value: object, path: Path) -> object:
    return {TAG: "ref", "c": encoder.name_of(value, path)}


def _decode_reference(node: Node, resolver: Resolver) -> object:
    name = text_in(node, "c")
    try:
        found = resolver.resolve(name)
    except UnknownTaskError as error:
        raise held(f"{error.task}, a stored value, is gone: {error.reason}") from error
    if not isinstance(found, type | FunctionType | BuiltinFunctionType):
        raise held(f"{name} is no longer a class or function")
    return found


def _enum(encoder: Encoder, value: Enum, path: Path) -> object:
    kind = type(value)
    name = encoder.name_of(kind, path, _ITS_CLASS)
    if kind.__members__.get(value._name_) is value:
        return {TAG: "enum", "c": name, "v": value._name_}
    # What is left is a combination of flags, or an object that was made behind the enum's back.
    members = [each for each in kind if _bits(each) & _bits(value) == _bits(each)]
    rest = _bits(value) & ~sum(map(_bits, members))
    node = {TAG: "flag", "c": name, "v": [each._name_ for each in members], "rest": rest}
    if not isinstance(value, Flag) or _combined(kind, node) is not value:
        encoder.refuse(
            path, f"it is no member of {kind.__qualname__}", "Pass a member, or its value."
        )
    return node


def _bits(member: Enum) -> int:
    return member._value_ if isinstance(member._value_, int) else 0


def _decode_enum(node: Node, resolver: Resolver) -> object:
    return _member(class_of(node, resolver, Enum), text_in(node))


def _member(kind: type[Enum], name: object) -> Enum:
    member = kind.__members__.get(str(name))
    if member is None:
        raise held(f"The enum {kind.__module__}:{kind.__qualname__} has no member {name!r} now")
    return member


def _decode_flag(node: Node, resolver: Resolver) -> object:
    found = _combined(class_of(node, resolver, Flag), node)
    if found is None:
        raise held(f"The flags of {node['c']} cannot be combined as they were stored")
    return found


def _combined(kind: type[Enum], node: Node) -> object:
    bits = functools.reduce(
        operator.or_, (_bits(_member(kind, name)) for name in node["v"]), node["rest"]
    )
    try:
        return kind(bits)
    except ValueError:
        return None


def _namedtuple(encoder: Encoder, value: Any, path: Path) -> object:
    kind = type(value)
    name = encoder.name_of(kind, path, _ITS_CLASS)
    if getattr(value, "__dict__", None) or len(kind._fields) != len(value):
        encoder.refuse(path, "it has more or less than its fields", _EXTRA_STATE)
    state = dict(zip(kind._fields, tuple(value), strict=True))
    return {TAG: "namedtuple", "c": name, "v": _fields(encoder, state, path)}


def _decode_namedtuple(node: Node, resolver: Resolver) -> object:
    kind = class_of(node, resolver, tuple)
    names = getattr(kind, "_fields", None)
    if not isinstance(names, tuple):
        raise held(f"{node['c']} is no longer a namedtuple")
    defaults = getattr(kind, "_field_defaults", {})
    gained = {name: _constant(default) for name, default in defaults.items()}
    state = _matched(node, names, gained)
    return tuple.__new__(kind, [state[name] for name in names])


def _dataclass(encoder: Encoder, value: Any, path: Path) -> object:
    kind = type(value)
    name = encoder.name_of(kind, path, _ITS_CLASS)
    try:
        object.__new__(kind)
    except TypeError:
        encoder.refuse(path, "its class is below a builtin class", _EXTRA_STATE)
    state = _state(value)
    found: dict[str, object] = {}
    for field in dataclasses.fields(value):
        # A field with init=False may still have the default of the class, and nothing of its own.
        item = state.pop(field.name, field.default)
        if item is dataclasses.MISSING:
            encoder.refuse(path, f"its field {field.name!r} was never set", "Set all fields.")
        found[field.name] = item
    _refuse_more(encoder, kind, state, path)
    return {TAG: "dataclass", "c": name, "v": _fields(encoder, found, path)}


def _decode_dataclass(node: Node, resolver: Resolver) -> object:
    kind: type = class_of(node, resolver, object)
    if not hasattr(kind, "__dataclass_fields__"):
        raise held(f"{node['c']} is no longer a dataclass")
    fields = dataclasses.fields(kind)
    gained = {field.name: default for field in fields if (default := _default(field)) is not None}
    state = _matched(node, [field.name for field in fields], gained)
    value: Any = object.__new__(kind)
    slots = _slots(kind)
    for name, item in state.items():
        # Neither a frozen class's __setattr__ nor a property of the field's name is called.
        if name in slots:
            slots[name].__set__(value, item)
        else:
            value.__dict__[name] = item
    return value


def _default(field: dataclasses.Field[Any]) -> Callable[[], object] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    if field.default is not dataclasses.MISSING:
        return _constant(field.default)
    return None


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def _model(encoder: Encoder, value: BaseModel, path: Path) -> object:
    kind = type(value)
    node: dict[str, object] = {TAG: "model", "c": encoder.name_of(kind, path, _ITS_CLASS)}
    state = _state(value)
    found = {name: state.pop(name, _NOTHING) for name in kind.model_fields}
    unset = [name for name, item in found.items() if item is _NOTHING]
    if unset:
        encoder.refuse(path, f"its field {unset[0]!r} was never set", "Validate the model.")
    fields_set = state.pop("__pydantic_fields_set__", set())
    extra = state.pop("__pydantic_extra__", None)
    private = state.pop("__pydantic_private__", None)
    _refuse_more(encoder, kind, state, path)
    node["v"] = _fields(encoder, found, path)
    node["set"] = sorted(fields_set)
    if extra:
        node["extra"] = encoder.encode(extra, path)
    if private:
        kept = {name: item for name, item in private.items() if item is not PydanticUndefined}
        node["private"] = _fields(encoder, kept, path)
    return node


def _decode_model(node: Node, resolver: Resolver) -> object:
    kind = class_of(node, resolver, BaseModel)
    fields: dict[str, FieldInfo] = kind.model_fields
    gained = {
        name: functools.partial(_model_default, field, node["v"])
        for name, field in fields.items()
        if not field.is_required()
    }
    state: dict[str, Any] = {
        "__dict__": _matched(node, fields, gained),
        "__pydantic_fields_set__": set(node["set"]),
        "__pydantic_extra__": {} if kind.model_config.get("extra") == "allow" else None,
        "__pydantic_private__": _private(node, kind),
    }
    if node.get("extra"):
        if state["__pydantic_extra__"] is None:
            raise held(f"The class {node['c']} has no extra fields any more")
        state["__pydantic_extra__"].update(node["extra"])
    value = object.__new__(kind)
    # The base classes' own way back from a pickle: no validator, nothing of the user's.
    base = RootModel if issubclass(kind, RootModel) else BaseModel
    base.__setstate__(value, state)
    return value


def _model_default(field: FieldInfo | ModelPrivateAttr, values: Mapping[str, Any]) -> object:
    factory: Callable[..., object] | None = field.default_factory
    if factory is None:
        return field.get_default()
    takes_values = getattr(field, "default_factory_takes_validated_data", False)
    return factory(dict(values)) if takes_values else factory()


def _private(node: Node, kind: type[BaseModel]) -> dict[str, Any] | None:
    attributes = kind.__private_attributes__
    stored: dict[str, Any] = dict(node.get("private") or {})
    lost = [name for name in stored if name not in attributes]
    if lost:
        raise held(f"The class {node['c']} has no private attribute {lost[0]!r} any more")
    for name in attributes.keys() - stored.keys():
        default = _model_default(attributes[name], {**node["v"], **stored})
        if default is not PydanticUndefined:
            stored[name] = default
    return stored if attributes else None


def _fields(encoder: Encoder, state: Mapping[str, object], path: Path) -> object:
    return object_of(
        [(name, encoder.encode(item, (path, "attribute", name))) for name, item in state.items()]
    )


def _matched(
    node: Node, names: Iterable[str], gained: Mapping[str, Callable[[], object]]
) -> dict[str, Any]:
    """Return stored fields, and defaults for those that the class has gained since.

    Raises:
        PayloadError: The class has lost a field, or has gained one without a default.
    """
    state: dict[str, Any] = dict(node["v"])
    known = list(names)
    lost = sorted(state.keys() - set(known))
    new = [name for name in known if name not in state and name not in gained]
    if lost or new:
        problems = [f"has no field {name!r} any more" for name in lost]
        problems += [f"needs the field {name!r}, which was not stored" for name in new]
        raise held(f"The class {node['c']} {' and '.join(problems)}")
    for name in known:
        if name not in state:
            try:
                state[name] = gained[name]()
            except Exception as error:  # the factory is the user's
                problem = f"the default of the new field {name!r} of {node['c']} failed: {error!r}"
                raise held(f"Reading a stored value, {problem}") from error
    return state


def _state(value: object) -> dict[str, Any]:
    """Return all that an instance holds, without calling any property."""
    kind: Any = type(value)
    state = dict(getattr(value, "__dict__", ()))
    for name, slot in _slots(kind).items():
        try:
            state[name] = slot.__get__(value)
        except AttributeError:
            continue
    return state


@functools.lru_cache(maxsize=1024)
def _slots(kind: type) -> dict[str, MemberDescriptorType]:
    return {
        name: member
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType)
    }


def _refuse_more(encoder: Encoder, kind: type, state: Mapping[str, object], path: Path) -> None:
    """Refuse what is in no field, except cached properties, which are computed again."""
    for name in state:
        if not isinstance(inspect.getattr_static(kind, name, None), functools.cached_property):
            encoder.refuse(path, f"its attribute {name!r} is no field of the class", _EXTRA_STATE)


DECODERS: Final[dict[str, Decode]] = {
    "ref": _decode_reference,
    "enum": _decode_enum,
    "flag": _decode_flag,
    "namedtuple": _decode_namedtuple,
    "dataclass": _decode_dataclass,
    "model": _decode_model,
}
