"""What a conversion writes, tensor by tensor, and what it refuses before anything is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twingrad.convert.dtypes import holds, is_float
from twingrad.convert.source import Cast, Source, listed, same_bits
from twingrad.convert.writer import Output
from twingrad.foreign import Array, DType
from twingrad.map import Shape, Through
from twingrad.partners import Partner

# Sums and functions of the pair's own are computed in this dtype and rounded once.
WIDE = np.dtype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Casting:
    """The dtype that floating-point numbers are cast to, ``None`` for the one they have.

    One that cannot hold all of a tensor's numbers is refused unless ``lossy``.
    """

    dtype: DType | None = None
    lossy: bool = False

    def of(self, source: Source) -> Source:
        """``source`` in this dtype. Raises ``ValueError`` for a tensor that would lose numbers."""
        if self.dtype is None:
            return source
        for name, stored in source.stored.items():
            if not self.lossy and is_float(stored.dtype) and not holds(self.dtype, stored.dtype):
                raise ValueError(
                    f"{name} is {stored.dtype.name}, and {self.dtype.name} cannot hold all of its "
                    "numbers: choose another --dtype, or round them with --lossy"
                )
        return Cast(source, self.dtype)


@dataclass(kw_only=True)
class Plan:
    """Tensors to write, those that JAX has no place for, and sentences to print.

    Outputs are made while they are written, one after the other.
    """

    outputs: list[Output]
    alone: list[Output] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def require_shapes(
    source: Source, names: Mapping[str, str], shapes: Mapping[str, Shape], framework: str
) -> None:
    """Raise ``ValueError`` naming the first tensor whose shape is not the model's, with both.

    ``names`` are names in the file by names in the model.
    """
    for name, stored_name in names.items():
        found, wanted = source.stored[stored_name].shape, shapes[name]
        if found != wanted:
            raise ValueError(
                f"{stored_name} has shape {found} in {source.path} and {wanted} in the {framework} "
                "model: convert a checkpoint of this model"
            )


def require_known(source: Source, known: Iterable[str], framework: str) -> None:
    """Raise ``ValueError`` naming tensors of the file that the model has not."""
    unknown = sorted(set(source.stored) - set(known))
    if unknown:
        raise ValueError(
            f"{source.path} holds {listed(unknown)}, which the {framework} model of the pair has "
            "not: convert a checkpoint of this model, or leave them out of the file"
        )


def require_there(
    source: Source, missing: Sequence[str], why: str = "the map needs: convert a whole checkpoint"
) -> None:
    """Raise ``ValueError`` naming tensors that the file lacks, with why they have to be there."""
    if missing:
        raise ValueError(f"{source.path} lacks {listed(missing)}, which {why}")


def is_computed(p: Partner) -> bool:
    """Whether numbers are changed on the way, and not moved alone."""
    return bool(p.added) or has_functions(p)


def has_functions(p: Partner) -> bool:
    """Whether functions of the pair's own are on the way."""
    return any(isinstance(step, Through) for step in p.steps)


def is_covered(partners: Sequence[Partner], shape: Shape) -> bool:
    """Whether the ``partners`` of one PyTorch tensor of this shape have all of its numbers."""
    cuts = [p.cut for p in partners if p.cut is not None and p.cut.stop is not None]
    if len(cuts) < len(partners):
        return True
    return bool(cuts) and sum(c.stop - c.start for c in cuts if c.stop) == shape[cuts[0].axis]


def joint_dtype(what: str, stored: Sequence[tuple[str, DType]]) -> DType:
    """The dtype that all of ``stored``, names with dtypes, share. Raises ``ValueError`` else."""
    dtypes = {dtype for _, dtype in stored}
    if len(dtypes) > 1:
        (first, one), (second, other) = stored[0], next(x for x in stored if x[1] != stored[0][1])
        raise ValueError(
            f"{what} is made of {first}, which is {one.name}, and {second}, which is {other.name}: "
            "give --dtype one that holds both"
        )
    return stored[0][1]


def require_given_back(name: str, before: Array, after: Array) -> None:
    """Raise ``ValueError`` where a pair's own functions, rounded, do not undo one another."""
    if not same_bits(before, after):
        raise ValueError(
            f"{name}: the functions of its map do not give the same {before.dtype.name} numbers "
            "back, once rounded: write them so that they do, or round with --lossy"
        )


def output_of(name: str, value: Array) -> Output:
    """A tensor that is in memory."""
    return Output(name=name, shape=tuple(value.shape), dtype=value.dtype, make=lambda: value)


def output_from(source: Source, stored_name: str, name: str) -> Output:
    """A tensor of ``source`` as it is, but for its name."""
    stored = source.stored[stored_name]
    return Output(
        name=name,
        shape=stored.shape,
        dtype=stored.dtype,
        make=lambda: source.read(stored_name),
    )
