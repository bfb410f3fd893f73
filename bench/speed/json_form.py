"""Dataclasses read from JSON objects, and written as such.

A field that has a default may be absent. A field with ``OPTIONAL`` metadata is left out of the JSON
where it is None. A class with a ``from_json`` and a ``to_json`` of its own is read and written
by them.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

Json: TypeAlias = dict[str, object]
T = TypeVar("T")
_OPTIONAL = "left out where it is None"
# Metadata of a field that is left out of the JSON where it is None.
OPTIONAL = {_OPTIONAL: True}
_FIELDS: dict[type, list[tuple[str, object, bool]]] = {}


@runtime_checkable
class _Reads(Protocol):
    def from_json(self, value: object, place: str) -> object: ...


@runtime_checkable
class _Writes(Protocol):
    def to_json(self) -> object: ...


def json_object(value: object, place: str) -> Json:
    """``value`` if it is a JSON object; ``ValueError`` if not."""
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object, got {type(value).__name__}")
    return value


def decode(kind: type[T], value: object, place: str = "the record", **known: object) -> T:
    """The dataclass ``kind`` read from a JSON object; ``ValueError`` names what is wrong in it.

    Fields in ``known`` have been read already.
    """
    content = json_object(value, place)
    fields = dict(known)
    for name, hint, required in _fields(kind):
        if name in known:
            continue
        if name in content:
            fields[name] = _decoded(hint, content[name], f"{place}/{name}")
        elif required:
            raise ValueError(f"{place}: {name!r} is missing")
    return kind(**fields)


def _fields(kind: type) -> list[tuple[str, object, bool]]:
    """Name and type of each field of a dataclass, and whether it has no default."""
    if kind not in _FIELDS:
        hints = typing.get_type_hints(kind)
        missing = dataclasses.MISSING
        _FIELDS[kind] = [
            (field.name, hints[field.name], field.default is field.default_factory is missing)
            for field in dataclasses.fields(kind)
        ]
    return _FIELDS[kind]


def _decoded(hint: object, value: object, place: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object:
        return value
    if isinstance(hint, types.UnionType):
        rest = next(part for part in arguments if part is not types.NoneType)
        return None if value is None else _decoded(rest, value, place)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{place}: expected an array, got {type(value).__name__}")
        return tuple(
            _decoded(arguments[0], part, f"{place}/{number}") for number, part in enumerate(value)
        )
    if typing.is_typeddict(hint):
        return json_object(value, place)
    if origin is dict:
        content = json_object(value, place)
        return {
            key: _decoded(arguments[1], part, f"{place}/{key}") for key, part in content.items()
        }
    if isinstance(hint, _Reads):
        return hint.from_json(value, place)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return decode(hint, value, place)
    return _plain(hint, value, place)


def _plain(hint: object, value: object, place: str) -> object:
    """A boolean, number or text; JSON has 1.0 as 1 too."""
    if hint is float and type(value) is int:
        return value
    if type(value) is not hint:
        raise ValueError(f"{place}: expected {hint}, got {value!r:.50}")
    return value


def encode(instance: object) -> Json:
    """The fields of a dataclass as a JSON object, in their order."""
    if not dataclasses.is_dataclass(instance):
        raise TypeError(f"{type(instance).__name__} is no dataclass")
    content: Json = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if value is not None or _OPTIONAL not in field.metadata:
            content[field.name] = _encoded(value)
    return content


def _encoded(value: object) -> object:
    if isinstance(value, _Writes):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, Mapping):
        return {key: _encoded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(part) for part in value]
    return value
