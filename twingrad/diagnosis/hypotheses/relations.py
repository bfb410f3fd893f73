"""How one tensor is the other: reordered, shifted, masked, or a function of it."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from twingrad.diagnosis.finding import Cause
from twingrad.diagnosis.hypotheses.context import FIT, Context
from twingrad.diagnosis.hypotheses.layers import ACTIVATIONS
from twingrad.foreign import Array

Relation = tuple[str, Array]  # words, and what JAX's numbers would be
LEAST = 4  # numbers that a relation must explain
LONGEST = 64  # positions of an axis that is tried rolled by each
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    **ACTIVATIONS,
    "the exponential": np.exp,
    "the logarithm": np.log,
    "the square": np.square,
    "the square root": np.sqrt,
    "the absolute value": np.abs,
    "the inverse": np.reciprocal,
    "the sine": np.sin,
    "the cosine": np.cos,
    "a softmax over the last axis": lambda x: _softmax(x, -1),
    "a logarithm of a softmax over the last axis": lambda x: np.log(_softmax(x, -1)),
    "its rows of length 1": lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
}


def relation(context: Context) -> Cause | None:
    """What makes one model's tensor of the other's, to the last digits; nothing for a factor."""
    torch, jax = context.torch, context.jax
    if torch.shape != jax.shape or torch.size < LEAST or not _is_finite(torch, jax):
        return None
    if not torch.any() or not jax.any():
        return None  # zeros are many a function of anything
    with np.errstate(all="ignore"):
        same_numbers = _close(np.sort(torch, None), np.sort(jax, None), context)
        for words, predicted in _orders(torch) if same_numbers else ():
            if _close(predicted, jax, context):
                return Cause.statement(f"JAX's is PyTorch's {words}")
        for words, predicted in _shifts(torch, jax):
            if _close(predicted, jax, context):
                return Cause.statement(f"JAX's is PyTorch's {words}")
        for name, function in FUNCTIONS.items():
            if _close(function(torch), jax, context):
                return Cause.statement(f"JAX's is {name} of PyTorch's")
            if _close(function(jax), torch, context):
                return Cause.statement(f"PyTorch's is {name} of JAX's")
        step = float((jax - torch).mean())
        if _close(torch + step, jax, context) and _varies(torch, context):
            return Cause.statement(f"JAX's is PyTorch's plus {step:.6g}")
    return None


def _is_finite(*arrays: Array) -> bool:
    return all(x.dtype.kind == "f" and bool(np.isfinite(x).all()) for x in arrays)


def _varies(x: Array, context: Context) -> bool:
    return not _close(np.full(x.shape, x.mean()), x, context)


def _close(predicted: Array, actual: Array, context: Context) -> bool:
    """Whether ``predicted`` is ``actual``, and nearer to it by far than the other model's is."""
    size = _norm(actual)
    error = _norm(predicted.astype(np.float64) - actual)
    gap = _norm(context.torch.astype(np.float64) - context.jax)
    return error <= min(FIT[context.dtype] * size, 1e-3 * gap)


def _norm(x: Array) -> float:
    """The norm, which is finite for the lowest numbers of float32 that stand in masks."""
    return float(np.linalg.norm(x.astype(np.float64).ravel()))


def _orders(x: Array) -> Iterator[Relation]:
    """The same numbers in other places."""
    for i, j in itertools.combinations(range(x.ndim), 2):
        if x.shape[i] == x.shape[j] > 1:
            yield f"with axes {i} and {j} swapped", x.swapaxes(i, j)
    for axis, n in enumerate(x.shape):
        if n > 1:
            yield from _along(x, axis, n)
    if 1 < x.ndim <= 4:
        for axes in itertools.permutations(range(x.ndim)):
            shape = tuple(x.shape[a] for a in axes)
            if axes != tuple(range(x.ndim)):
                words = f"with its axes in the order {shape}, read as {x.shape}"
                yield words, x.transpose(axes).reshape(x.shape)


def _along(x: Array, axis: int, n: int) -> Iterator[Relation]:
    if n % 2 == 0 and n > 2:
        yield f"with the halves of axis {axis} swapped", np.roll(x, n // 2, axis)
        pairs = _regrouped(x, axis, (2, n // 2))
        yield f"with the halves of axis {axis} interleaved (0, {n // 2}, 1, ...)", pairs
        halves = _regrouped(x, axis, (n // 2, 2))
        words = f"with axis {axis} in another order, even numbers before odd ones (0, 2, ...)"
        yield words, halves
    yield f"reversed along axis {axis}", np.flip(x, axis)
    for by in range(1, min(n, LONGEST)):
        yield f"rolled by {by if by <= n // 2 else by - n} along axis {axis}", np.roll(x, by, axis)
    for part in range(2, n // 2 + 1):
        if n % part == 0:
            words = f"with axis {axis} read as ({n // part}, {part}) for ({part}, {n // part})"
            yield words, _regrouped(x, axis, (part, n // part))


def _regrouped(x: Array, axis: int, parts: tuple[int, int]) -> Array:
    """An axis cut in two, which are then swapped."""
    cut = x.reshape(*x.shape[:axis], *parts, *x.shape[axis + 1 :])
    return cut.swapaxes(axis, axis + 1).reshape(x.shape)


def _shifts(torch: Array, jax: Array) -> Iterator[Relation]:
    """Numbers that stand one or two places on, whatever comes in at the end."""
    for axis, n in enumerate(torch.shape):
        first = np.moveaxis(jax, axis, 0)
        for by in (1, -1, 2, -2):
            if n <= abs(by) + 1 or torch.size // n * (n - abs(by)) < LEAST:
                continue
            moved = np.moveaxis(np.roll(torch, by, axis), axis, 0).copy()
            edge = slice(None, by) if by > 0 else slice(by, None)
            zeros = " and zeros come in" if not first[edge].any() else ""
            moved[edge] = first[edge]
            yield f"shifted by {by:+d} along axis {axis}{zeros}", np.moveaxis(moved, 0, axis)


def _softmax(x: Array, axis: int) -> Array:
    exp = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(exp / exp.sum(axis, keepdims=True))


def first_difference(torch: Array, jax: Array, near: float = 1e-9) -> str:
    """The first number that differs, with its indices, for a reader to look at; else nothing."""
    if torch.shape != jax.shape or torch.ndim == 0 or torch.size == 0:
        return ""
    scale = float(np.abs(torch[np.isfinite(torch)]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(torch - jax) <= near * scale)
    if not apart.any():
        return ""
    where = np.unravel_index(int(np.argmax(apart)), torch.shape)
    place = ", ".join(map(str, map(int, where)))
    share = apart.mean()
    text = f"first at [{place}]: {torch[where]:.8g} in PyTorch, {jax[where]:.8g} in JAX"
    return text + (f"; {_percent(share)} of the numbers differ" if share < 1 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "nearly all"


def ruled_out(context: Context) -> str:
    """What was looked for where no cause was found."""
    if context.torch.shape != context.jax.shape:
        return ""
    if context.torch.size < LEAST:
        return "no loss, reduction or count that is known gives both numbers"
    tried = ["reordered, shifted, scaled or masked", "a function of it", "rounded"]
    text = "neither is the other's " + ", ".join(tried)
    if context.trial is not None:
        text += ", nor PyTorch's with one operation changed"
    return text
