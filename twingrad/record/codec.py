"""Dataclasses as JSON and tensors, and back; what is read is held against the fields' types."""

import dataclasses
import hashlib
import math
import sys
import types
from collections.abc import Mapping
from functools import cache
from typing import Literal, SupportsFloat, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from twingrad.foreign import Array, Untyped

T = TypeVar("T")
# Dtypes that every reader has; others, such as bfloat16, are written as float32, which holds them.
_PLAIN = frozenset(
    ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
     "uint16", "uint8", "bool")
)  # fmt: skip
_COMPLEX = "complex:"  # before the name of a tensor of real and imaginary parts


class Tensors:
    """Tensors by names that are made from their bytes, so that equal ones are kept once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Array] = {}

    def add(self, x: Array) -> str:
        """The name of ``x``, which is kept from now on."""
        if np.iscomplexobj(x):
            return _COMPLEX + self.add(np.stack([x.real, x.imag], axis=-1))
        plain = x if x.dtype.name in _PLAIN else x.astype(np.float32)
        plain = np.ascontiguousarray(plain).reshape(x.shape)
        name = digest(plain)
        self.by_name.setdefault(name, plain)
        return name

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(x.nbytes for x in self.by_name.values())


def digest(x: Array) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes, in hexadecimal digits."""
    sha = hashlib.sha256(f"{x.dtype.str} {x.shape} ".encode())
    sha.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def encode(value: object, tensors: Tensors) -> object:
    """``value`` as JSON has it; arrays go to ``tensors`` and are named.

    Raises ``TypeError`` for a value of another kind.
    """
    if isinstance(value, np.generic):  # what NumPy makes of arrays without axes
        return tensors.add(np.asarray(value))
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray):
        return tensors.add(value)
    if isinstance(value, list | tuple):
        return [encode(x, tensors) for x in value]
    if isinstance(value, set | frozenset):
        return sorted(str(x) for x in value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: encode(x, tensors) for key, x in value.items()}
        return [[encode(key, tensors), encode(x, tensors)] for key, x in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name), tensors) for f in dataclasses.fields(value)}
    if isinstance(value, SupportsFloat):  # a setting of an optimizer that is a tensor
        return encode(float(value), tensors)
    raise TypeError(f"a {type(value).__name__} cannot be recorded")


def decode(kind: type[T], data: object, tensors: Mapping[str, Array]) -> T:
    """What ``encode`` made ``data`` of. Raises ``ValueError`` for data of another form."""
    decoded: T = _Reader(tensors).value(kind, data)
    return decoded


class _Reader:
    """Values of the types that records have, from JSON and tensors."""

    def __init__(self, tensors: Mapping[str, Array]):
        self.tensors = tensors

    def value(self, kind: Untyped, data: Untyped) -> Untyped:
        """``data`` as ``kind``."""
        origin: Untyped = get_origin(kind)
        arguments = get_args(kind)
        if origin in (Union, types.UnionType):
            (inner,) = (x for x in arguments if x is not type(None))
            return None if data is None else self.value(inner, data)
        if origin is Literal:
            return _of(data in arguments, data, data)
        if origin is np.ndarray:
            return self._tensor(data)
        if origin in (list, tuple, set, frozenset, dict):
            return self._many(origin, arguments, data)
        if kind is float:
            return self._float(data)
        if kind in (str, int, bool):
            return _of(type(data) is kind, data, data)
        is_record = dataclasses.is_dataclass(kind)
        if is_record:
            names = list(_hints(kind))
            _of(isinstance(data, dict) and sorted(data) == sorted(names), data, None)
            values = {name: self.value(hint, data[name]) for name, hint in _hints(kind).items()}
            return _built(kind, values)
        hints = list(_hints(kind).values())  # a NamedTuple
        _of(isinstance(data, list) and len(data) == len(hints), data, None)
        return kind(*map(self.value, hints, data))

    def _many(self, origin: Untyped, arguments: Untyped, data: Untyped) -> Untyped:
        if origin is dict:
            if isinstance(data, dict):
                _of(arguments[0] is str or not data, data, None)
                return {key: self.value(arguments[1], x) for key, x in data.items()}
            pairs = _of(isinstance(data, list), data, data)
            _of(all(isinstance(pair, list) and len(pair) == 2 for pair in pairs), data, None)
            return {self.value(arguments[0], k): self.value(arguments[1], x) for k, x in pairs}
        _of(isinstance(data, list), data, None)
        if origin is tuple and arguments[-1] is not Ellipsis:
            _of(len(data) == len(arguments), data, None)
            return tuple(map(self.value, arguments, data))
        return origin(self.value(arguments[0], x) for x in data)

    def _float(self, data: Untyped) -> float:
        if isinstance(data, str) and data in self.tensors:  # what NumPy makes of a single number
            x = self.tensors[data]
            return float(_of(x.size == 1 and x.dtype.kind in "fiub", data, x).item())
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        is_finite = is_number and abs(data) <= sys.float_info.max
        return float(_of(is_finite or data in ("inf", "-inf", "nan"), data, data))

    def _tensor(self, data: Untyped) -> Array:
        _of(isinstance(data, str), data, None)
        name = data.removeprefix(_COMPLEX)
        _of(name in self.tensors, data, None)
        x = self.tensors[name]
        if name == data:
            return x
        _of(x.dtype.kind == "f" and x.shape[-1:] == (2,), data, None)
        whole: Array = x[..., 0] + 1j * x[..., 1]
        return whole


def _built(kind: Untyped, values: Mapping[str, object]) -> object:
    return kind(**values)


@cache
def _hints(kind: Untyped) -> dict[str, Untyped]:
    return get_type_hints(kind)


def _of(is_right: bool, data: object, value: Untyped) -> Untyped:
    if not is_right:
        raise ValueError(f"{data!r:.80} stands where something else is expected")
    return value
