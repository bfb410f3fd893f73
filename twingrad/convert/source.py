"""A checkpoint that is read: what it holds by name, and its tensors one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twingrad.convert.dtypes import is_float
from twingrad.foreign import Array, DType
from twingrad.map import Shape

_AT_ONCE = 1 << 22  # bytes that are compared at once


@dataclass(frozen=True)
class Stored:
    """A tensor in a checkpoint: its shape and dtype, known before it is read."""

    shape: Shape
    dtype: DType


class Source(ABC):
    """A checkpoint. ``stored`` are its tensors by name; ``path`` is what messages call it."""

    path: Path
    stored: Mapping[str, Stored]

    @abstractmethod
    def read(self, name: str) -> Array:
        """The tensor ``name``, which may be a view of the file; nothing is kept of it."""


class Parts(Source):
    """A checkpoint in several files."""

    def __init__(self, path: Path, parts: Sequence[Source]):
        self.path = path
        self.owners: dict[str, Source] = {}
        for part in parts:
            for name in part.stored:
                if name in self.owners:
                    raise ValueError(
                        f"{path}: {name} is in {self.owners[name].path.name} and in "
                        f"{part.path.name}: keep one"
                    )
                self.owners[name] = part
        self.stored = {name: part.stored[name] for name, part in self.owners.items()}

    def read(self, name: str) -> Array:
        """The tensor ``name`` from the file that has it."""
        return self.owners[name].read(name)


class Completed(Source):
    """A checkpoint with ``numbers`` beside it that it lacks, by name."""

    def __init__(self, source: Source, numbers: Mapping[str, Array]):
        self.path, self.source, self.numbers = source.path, source, numbers
        more = {name: Stored(tuple(x.shape), x.dtype) for name, x in numbers.items()}
        self.stored = {**source.stored, **more}

    def read(self, name: str) -> Array:
        """The tensor ``name``, wherever it is."""
        return self.numbers[name] if name in self.numbers else self.source.read(name)


class Cast(Source):
    """A checkpoint read with its floating-point numbers in ``dtype``, rounded if it is narrower."""

    def __init__(self, source: Source, dtype: DType):
        self.path, self.source = source.path, source
        self.stored = {
            name: replace(stored, dtype=dtype) if is_float(stored.dtype) else stored
            for name, stored in source.stored.items()
        }

    def read(self, name: str) -> Array:
        """The tensor ``name`` in that dtype."""
        value: Array = self.source.read(name).astype(self.stored[name].dtype, copy=False)
        return value


class Values(Mapping[str, Array]):
    """Tensors of a source by other names, read when they are looked up, in ``dtype`` if given."""

    def __init__(self, source: Source, names: Mapping[str, str], dtype: DType | None = None):
        self.source, self.names, self.dtype = source, names, dtype

    @classmethod
    def of(cls, source: Source) -> "Values":
        """Tensors of a source by their own names."""
        return cls(source, {name: name for name in source.stored})

    def __getitem__(self, name: str) -> Array:
        value = self.source.read(self.names[name])
        return value if self.dtype is None else value.astype(self.dtype)

    def __contains__(self, name: object) -> bool:
        return name in self.names  # nothing is read for it

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def same_bits(a: Array, b: Array) -> bool:
    """Whether two tensors have the same shape, dtype and bits, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    first, second = as_bytes(a), as_bytes(b)
    starts = range(0, first.size, _AT_ONCE)
    return all(np.array_equal(first[i : i + _AT_ONCE], second[i : i + _AT_ONCE]) for i in starts)


def as_bytes(x: Array) -> Array:
    """The bytes of ``x`` in the order of its axes: a view where it lies so already."""
    flat: Array = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    return flat


def listed(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
