"""Which tensor of one model's call is which of the other's, and how it lies there.

Ports hand the same things on in another order and another layout: ``(x, h)`` and ``(h, x)``, heads
cut out of a width, query, key and value as one. Tensors are matched by their numbers first, under
any order of the axes, and what that leaves by position and shape.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twingrad import numerics
from twingrad.foreign import Array

# How near the numbers of one tensor are to another's for the two to be the same, relatively (L2).
SAME = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.05}
# What is added to a score is this low where it is to be hidden.
HIDDEN = -1e9
# Orders of more axes than this are not tried: there are too many.
MOST_AXES = 4


@dataclass(frozen=True)
class Placed:
    """The tensors of PyTorch's call that stand for one of JAX's, and the order of their axes.

    Several ``sources`` are one tensor given several times: their gradients are added up.
    """

    sources: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def value(self, torch: Sequence[Array]) -> Array:
        """PyTorch's tensor as JAX has it."""
        return self._laid_out(torch[self.sources[0]])

    def gradient(self, gradients: Sequence[Array]) -> Array:
        """The gradient there, as JAX has it."""
        total = gradients[self.sources[0]]
        for other in self.sources[1:]:
            total = total + gradients[other]
        return self._laid_out(total)

    def undone(self, y: Array, shape: tuple[int, ...]) -> Array:
        """JAX's tensor as PyTorch has it, in ``shape``."""
        turned = y.reshape([shape[axis] for axis in self.axes])
        return turned.transpose(np.argsort(self.axes))

    def _laid_out(self, x: Array) -> Array:
        return x.transpose(self.axes).reshape(self.shape)


def placed(
    torch: Sequence[Array],
    shapes: Sequence[tuple[int, ...]],
    values: Sequence[Array] | None,
    channels_last: bool,
    dtype: str,
) -> list[Placed | None]:
    """For each of JAX's tensors, of ``shapes``, PyTorch's; None where there is none.

    ``values`` are JAX's numbers from a pass of its own, if they are known. Without them, or where
    numbers settle nothing, tensors go by position: each to the next one whose shape fits.
    """
    found: list[Placed | None] = [None] * len(shapes)
    free = set(range(len(torch)))
    if values is not None and len(values) == len(shapes):
        for place, (shape, value) in enumerate(zip(shapes, values, strict=True)):
            if value.shape == tuple(shape):
                found[place] = _by_value(torch, sorted(free), value, channels_last, dtype)
            if found[place] is not None:
                free -= set(found[place].sources)  # type: ignore[union-attr]
    for place, shape in enumerate(shapes):
        if found[place] is not None:
            continue
        for number in sorted(free):
            axes = default_axes(torch[number].shape, tuple(shape), channels_last)
            if axes is not None and not _is_masked_alone(place, torch[number], values):
                found[place] = Placed((number,), axes, tuple(shape))
                free -= {*range(number + 1)}
                break
    return [_with_copies(match, torch, free) for match in found]


def _is_masked_alone(place: int, torch: Array, values: Sequence[Array] | None) -> bool:
    """Whether JAX's tensor hides places by lowest numbers, of which PyTorch's has none.

    A bias of scores that has the mask in it, and one beside which the mask is handed on, are two
    things that only look alike.
    """
    if values is None or place >= len(values) or torch.dtype.kind != "f":
        return False
    value = values[place]
    hidden = value <= HIDDEN if value.dtype.kind == "f" else np.zeros(0, bool)
    return bool(hidden.any() and not hidden.all() and not (torch <= HIDDEN).any())


def _by_value(
    torch: Sequence[Array], free: Sequence[int], value: Array, channels_last: bool, dtype: str
) -> Placed | None:
    for number in free:
        if torch[number].size != value.size:
            continue
        for axes in _orders(torch[number].shape, value.shape, channels_last):
            match = Placed((number,), axes, value.shape)
            if _same(match.value(torch), value, dtype):
                return match
    return None


def _orders(
    shape: tuple[int, ...], other: tuple[int, ...], channels_last: bool
) -> Iterator[tuple[int, ...]]:
    """Orders of the axes: the one by shape, and only where there is none, all.

    A tensor that fits as it is and has its numbers in another order is a mistake, not a layout.
    """
    by_shape = default_axes(shape, other, channels_last)
    if by_shape is not None:
        yield by_shape
    elif len(shape) <= MOST_AXES:
        yield from itertools.permutations(range(len(shape)))


def default_axes(
    shape: tuple[int, ...], other: tuple[int, ...], channels_last: bool
) -> tuple[int, ...] | None:
    """The order of the axes by shape alone: as they are, or channels last.

    Axes of one, which broadcast anyhow, may be there or not.
    """
    straight = tuple(range(len(shape)))
    turned = (0, *straight[2:], 1) if len(shape) > 2 else straight
    for axes in (turned, straight) if channels_last else (straight, turned):
        if [shape[a] for a in axes if shape[a] > 1] == [n for n in other if n > 1]:
            return axes
    return None


def in_layout(x: Array, shape: tuple[int, ...], channels_last: bool) -> Array | None:
    """PyTorch's tensor with its axes where JAX has them, by shape alone; None if it cannot be."""
    axes = default_axes(x.shape, shape, channels_last)
    return None if axes is None else x.transpose(axes).reshape(shape)


def _same(x: Array, y: Array, dtype: str) -> bool:
    x, y = numerics.without_shared(x.reshape(y.shape), y)
    # In float32 the squares of a mask's lowest numbers would overflow.
    wide = np.complex128 if np.iscomplexobj(x) or np.iscomplexobj(y) else np.float64
    y = np.asarray(y, wide)
    apart = np.asarray(x, wide) - y
    size, gap = (math.sqrt(float(np.vdot(z, z).real)) for z in (y, apart))
    return gap <= SAME[dtype] * size


def _with_copies(match: Placed | None, torch: Sequence[Array], free: set[int]) -> Placed | None:
    """``match`` with the tensors left over that are the same one, given once more."""
    if match is None:
        return None
    first = torch[match.sources[0]]
    same = [number for number in sorted(free) if np.array_equal(torch[number], first)]
    free -= set(same)
    return Placed((*match.sources, *same), match.axes, match.shape)
