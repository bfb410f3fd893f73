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
from twingrad.sides import RecordedModel

# Exact in every dtype; one row alone has no other to be mixed with.
_ALONE = 0.875


def second(pair: Pair) -> Pair | None:
    """``pair`` with a second batch, or nothing where JAX's batch is no rearrangement of PyTorch's.

    Rows are those of the first axis, which must be as long in every array of two axes or more to be
    mixed. A recorded JAX model's own rows were mixed, and PyTorch's batch follows.
    """
    if pair.jax_batch is None:
        return replace(pair, batch=_mixture(pair.batch))
    if isinstance(pair.jax, RecordedModel):
        jax_batch = _mixture(pair.jax_batch)
        batch = _following(pair.jax_batch, jax_batch, pair.batch)
        return None if batch is None else replace(pair, batch=batch, jax_batch=jax_batch)
    mixed = _mixture(pair.batch)
    following = _following(pair.batch, mixed, pair.jax_batch)
    return None if following is None else replace(pair, batch=mixed, jax_batch=following)


def _mixture(batch: Sequence[Array]) -> list[Array]:
    rows = {len(x) for x in batch if x.ndim}
    order = np.roll(np.arange(rows.pop()), 1) if len(rows) == 1 else np.arange(1)
    return [_mixed(x, order) for x in batch]


def _following(
    batch: Sequence[Array], mixed: Sequence[Array], other: Sequence[Array]
) -> list[Array] | None:
    """What ``other``, which holds the numbers of ``batch``, becomes where that is ``mixed``."""
    following: list[Array] = []
    for x, y, new in zip(batch, other, mixed, strict=True):
        axes = _rearrangement(x, y)
        if axes is None:
            return None
        following.append(np.ascontiguousarray(new.transpose(axes)).reshape(y.shape).astype(y.dtype))
    return following


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
