"""Constants that were rounded to float32 before a framework saw them, and what they were before.

A table that NumPy made with ``astype(np.float32)``, or ``jnp.float32(0.1)``, has lost digits that
leaving out casts cannot give back. PyTorch's pass may hold the same numbers with all their digits:
its tables, masks and other tensors that no parameter goes into. A constant whose numbers are those,
but for float32's rounding, is given them; literals of few decimal digits are read again.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from twingrad.foreign import Array

# Numbers of no more binary digits than this are what they are: 0.5, 0.125, 3072.
_SHORT_BITS = 12
# Of decimal digits, for a number to be read as a literal: float32 holds no more than these of any.
_LITERAL_DIGITS = 6
_MOST_LITERALS = 64
# The share of a constant's numbers that PyTorch must have: a table may be longer than the batch.
_SHARE = 0.1
# How near two of PyTorch's numbers with one float32 are, relatively, to be one number.
_ONE_NUMBER = 1e-12
# Constants and tensors of more numbers than this are left as they are.
MOST = 1 << 22


def is_rounded(x: Array) -> Array:
    """Which numbers of ``x`` are float32's: neither whole nor of few binary digits."""
    wide = np.asarray(x, np.float64)
    mantissa = np.ldexp(np.frexp(wide)[0], _SHORT_BITS)
    rounded: Array = (
        (_float32(wide) == wide) & (wide != np.round(wide)) & (mantissa != np.round(mantissa))
    )
    return rounded & np.isfinite(wide)


class Originals:
    """What constants of JAX were before they were rounded, by PyTorch's ``tensors`` of any shape.

    With ``literals``, numbers that PyTorch has not are read as literals of few digits.
    """

    def __init__(self, tensors: Iterable[Array], literals: bool = False):
        self.literals = literals
        self.tensors = [np.asarray(x, np.float64) for x in tensors if 0 < x.size <= MOST]
        every = [x.ravel() for x in self.tensors]
        values = np.unique(np.concatenate([np.zeros(0), *every]))
        values = values[np.isfinite(values)]
        keys = _float32(values)
        first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: keys.size])
        last = np.r_[first[1:], keys.size][: first.size] - 1
        single = values[last] - values[first] <= _ONE_NUMBER * np.abs(values[first])
        self.keys, self.values = keys[first][single], values[first][single]

    def of(self, x: Array) -> Array | None:
        """``x`` in float64 with the digits that it has lost; None where none are known."""
        if not 0 < x.size <= MOST:
            return None
        rounded = is_rounded(x)
        if not rounded.any():
            return None
        wide = np.array(x, np.float64)
        found = [
            known for known in (self._by_number(wide, rounded), *self._by_place(wide)) if known
        ]
        for value, places in found:
            wide[places] = value[places]
        if not found and self.literals:
            return _literals(wide, rounded)
        return wide if found else None

    def _by_number(self, x: Array, rounded: Array) -> tuple[Array, Array] | None:
        """Numbers that round to those of ``x``, and where they are known."""
        if not self.keys.size:
            return None
        numbers = np.searchsorted(self.keys, _float32(x)).clip(max=self.keys.size - 1)
        places = rounded & (self.keys[numbers] == x)
        enough = places.sum() >= max(2, _SHARE * rounded.sum())
        return (self.values[numbers], places) if enough else None

    def _by_place(self, x: Array) -> Iterator[tuple[Array, Array]]:
        """Tensors that round to ``x``, number by number: as they are, cut off, or in part.

        Near 1 several numbers have one float32: the cosines of small angles.
        """
        for tensor in self.tensors:
            for mine, other in _views(x.shape, tensor.squeeze()):
                if np.array_equal(x[mine], _float32(other).reshape(x[mine].shape)):
                    value, places = x.copy(), np.zeros(x.shape, bool)
                    value[mine], places[mine] = other.reshape(x[mine].shape), True
                    if is_rounded(x[mine]).sum() >= 2:
                        yield value, places
                        break


def _views(
    shape: tuple[int, ...], tensor: Array
) -> "Iterator[tuple[tuple[slice[int | None, int | None, int | None], ...], Array]]":
    """Parts of an array of ``shape`` and of ``tensor`` that could be the same numbers.

    Each axis as it is, from its start as far as both go, or every k-th of the tensor's.
    """
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long) != tensor.ndim:
        return
    ways = []
    for axis, size in zip(long, tensor.shape, strict=True):
        least = min(shape[axis], size)
        steps = {1, size // shape[axis]} if size % shape[axis] == 0 else {1}
        ways.append([(least, slice(None, least * step, step)) for step in sorted(steps)])
    for chosen in itertools.product(*ways):
        mine = [slice(None)] * len(shape)
        for axis, (least, _) in zip(long, chosen, strict=True):
            mine[axis] = slice(None, least)
        yield tuple(mine), tensor[tuple(part for _, part in chosen)]


def _literals(x: Array, rounded: Array) -> Array | None:
    """``x`` with its numbers read as literals of few decimal digits; None where they are none."""
    lost = x[rounded]
    if lost.size > _MOST_LITERALS:
        return None
    literals = [_literal(number) for number in lost]
    if None in literals:
        return None
    x[rounded] = literals
    return x


def _literal(number: float) -> float | None:
    """The number of few decimal digits that float32 rounds to this one, if there is one."""
    text = np.format_float_scientific(np.float32(number), unique=True, trim="-")
    digits = text.partition("e")[0].lstrip("-").replace(".", "")
    return float(text) if len(digits) <= _LITERAL_DIGITS else None


def _float32(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return x.astype(np.float32).astype(np.float64)
