"""Where two tensors differ: rows and places by name, and what stands there in either."""

from collections.abc import Iterator

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context
from twingrad.foreign import Array

NEAR = 1e-9  # of the largest number: what counts as equal


def masked(context: Context) -> str | None:
    """What is zero, or without a gradient, in one model alone, where all else is equal."""
    torch, jax = context.torch, context.jax
    if torch.ndim == 0 or torch.shape != jax.shape or torch.size < 4:
        return None
    apart = np.abs(torch - jax) > NEAR * np.abs(torch).max()
    if not apart.any() or apart.all():
        return None
    name = place(context, apart)
    if name is None:
        return None
    verb = "no gradient flows" if context.stage == "backward" else "there are zeros"
    for framework, x, other in (("JAX", jax, torch), ("PyTorch", torch, jax)):
        if not x[apart].any() and other[apart].any():
            return f"{verb} in {framework} {name}; all else is equal"
    return None


def place(context: Context, apart: Array) -> str | None:
    """The places that are marked, in words; nothing where no words fit exactly."""
    for words, marked in _known(context, apart):
        if np.array_equal(marked, apart):
            return words
    return None


def _known(context: Context, apart: Array) -> Iterator[tuple[str, Array]]:
    shape = apart.shape
    for number, array in enumerate(context.batch):
        if array.shape == shape[: array.ndim] and array.dtype.kind in "biu":
            yield from _by_array(f"array {number + 1} of the batch", array, shape)
    for axis, n in enumerate(shape):
        others = tuple(i for i in range(apart.ndim) if i != axis)
        rows = np.flatnonzero(apart.any(axis=others))
        if 0 < len(rows) < n:
            marked = np.zeros(shape, bool)
            np.moveaxis(marked, axis, 0)[rows] = True
            yield f"at {_positions(rows, n)} of axis {axis}", marked
    if len(shape) > 1 and shape[-1] == shape[-2]:
        ones = np.ones(shape[-2:], bool)
        for words, square in (
            ("above the diagonal", np.triu(ones, 1)),
            ("below the diagonal", np.tril(ones, -1)),
            ("on the diagonal", np.eye(shape[-1], dtype=bool)),
        ):
            yield words, np.broadcast_to(square, shape)


def _by_array(name: str, array: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """Places where an array of the batch has one value."""
    values = [False, True] if array.dtype == bool else np.unique(array)[:64]
    for value in values:
        marked = (array == value).reshape(array.shape + (1,) * (len(shape) - array.ndim))
        yield f"where {name} is {value}", np.broadcast_to(marked, shape)
    if array.dtype.kind == "i" and (array < 0).any():
        marked = (array < 0).reshape(array.shape + (1,) * (len(shape) - array.ndim))
        yield f"where {name} is negative (ignored)", np.broadcast_to(marked, shape)


def _positions(rows: Array, n: int) -> str:
    if list(rows) == [n - 1]:
        return "the last position"
    if len(rows) == 1:
        return f"position {rows[0]}"
    run = list(range(rows[0], rows[-1] + 1))
    if list(rows) == run and len(rows) > 2:
        return f"positions {rows[0]} to {rows[-1]}"
    return f"positions {', '.join(map(str, rows[:6]))}{', ...' if len(rows) > 6 else ''}"
