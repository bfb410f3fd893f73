"""A second batch for a pair, made from the first one's numbers.

What two models agree on for one batch they may agree on by chance, or because the first batch finds
the state as it was. The second has other numbers of the same kinds: each row of floating-point
numbers is the mean of two rows, so that what is positive stays positive and what adds up to one
still does; integers and truth values are those of another row.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from twingrad.foreign import Array
from twingrad.pair import Pair

# Exact in every dtype; one row alone has no other to be mixed with.
_ALONE = 0.875


def second(pair: Pair) -> Pair | None:
    """``pair`` with a second batch, or nothing where JAX's batch is no rearrangement of PyTorch's.

    Rows are those of the first axis, which must be as long in every array of two axes or more to be
    mixed.
    """
    rows = {len(x) for x in pair.batch if x.ndim}
    order = np.roll(np.arange(rows.pop()), 1) if len(rows) == 1 else np.arange(1)
    mixed = [_mixed(x, order) for x in pair.batch]
    if pair.jax_batch is None:
        return replace(pair, batch=mixed)
    jax_batch: list[Array] = []
    for x, y, new in zip(pair.batch, pair.jax_batch, mixed, strict=True):
        axes = _rearrangement(x, y)
        if axes is None:
            return None
        jax_batch.append(np.ascontiguousarray(new.transpose(axes)).reshape(y.shape).astype(y.dtype))
    return replace(pair, batch=mixed, jax_batch=jax_batch)


def _mixed(x: Array, order: Array) -> Array:
    if x.ndim and len(order) == len(x) > 1:
        other = x[order]
        return np.asarray((x + other) / 2, x.dtype) if x.dtype.kind in "fc" else other
    return np.asarray(x * _ALONE, x.dtype) if x.dtype.kind in "fc" else x


def _rearrangement(x: Array, y: Array) -> Sequence[int] | None:
    """The order of the axes of ``x`` that gives the numbers of ``y``, whatever its shape."""
    for axes in itertools.permutations(range(x.ndim)):
        if np.array_equal(x.transpose(axes).ravel(), y.ravel()):
            return axes
    return None
