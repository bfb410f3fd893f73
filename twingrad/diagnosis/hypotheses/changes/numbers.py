"""Arithmetic: constants, counts that are divided by, signs, and what is broadcast."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    first,
    using,
)
from twingrad.diagnosis.hypotheses.changes.functions import EPSILONS
from twingrad.foreign import Tree
from twingrad.torch_replay import Operation


def _is_number(x: Tree) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def scale(op: Operation) -> Iterator[Alternative]:
    """A factor or divisor: left out, or another that has a name."""
    if len(op.args) < 2:
        return
    x, factor = op.args[0], op.args[1]
    own = {"mul": "times", "div": "divided by", "rdiv": "divided from"}[op.name]
    if _is_number(factor) and isinstance(x, Tensor):
        for words, value in _factors(x, float(factor)).items():
            yield Alternative(
                f"{own} {_named(float(factor), x)}",
                f"{own} {words}",
                using(value, lambda op, value: op.function(op.args[0], value)),
            )
        if op.name != "rdiv":
            yield Alternative(
                f"{own} {_named(float(factor), x)}", "no such factor", lambda op: op.args[0] * 1.0
            )
    elif op.name == "div" and isinstance(x, Tensor) and isinstance(factor, Tensor):
        yield from _counts(x, factor)
        yield from _not_divided(x, factor)


def _not_divided(x: Tensor, divisor: Tensor) -> Iterator[Alternative]:
    """What is divided by its own sum or norm, or by another tensor, as it was before."""
    words = f"divided by a tensor of shape {tuple(divisor.shape)}"
    for axis in range(-x.ndim, 0):
        for name, own in (
            ("sum, so that it adds up to one", x.sum(axis, keepdim=True)),
            ("norm", torch.linalg.vector_norm(x, dim=axis, keepdim=True)),
        ):
            same = own.shape == divisor.shape and torch.allclose(
                own, divisor.to(own.dtype), rtol=1e-6, atol=0
            )
            if same:
                words = f"divided by its own {name}"
    yield Alternative(words, "not divided", lambda op: op.args[0] * 1.0)


def _factors(x: Tensor, factor: float) -> dict[str, float]:
    """Other factors that somebody may have written."""
    values = {f"{n}": float(n) for n in x.shape if n > 1}
    values |= {f"sqrt({n})": math.sqrt(n) for n in x.shape if n > 1}
    values |= {f"{n - 1}": n - 1.0 for n in x.shape if n > 2}
    values |= {"its square": factor**2, "its square root": math.sqrt(abs(factor))}
    values |= {"its inverse": 1 / factor} if factor else {}
    values |= {"minus it": -factor, "twice it": 2 * factor, "half of it": factor / 2}
    values |= {f"1 - {factor:g}": 1 - factor} if 0 < factor < 1 else {}
    return {words: v for words, v in values.items() if not math.isclose(v, factor)}


def _named(value: float, x: Tensor) -> str:
    """A number, and what it is of the sizes of a tensor."""
    for n in x.shape:
        for words, size in ((f"sqrt({n})", math.sqrt(n)), (f"{n}", float(n))):
            if n > 1 and math.isclose(value, size, rel_tol=1e-12):
                return words
            if n > 1 and math.isclose(value, 1 / size, rel_tol=1e-12):
                return f"1 / {words}"
    square = value**2
    if (
        value != round(value)
        and math.isclose(square, round(square), rel_tol=1e-12)
        and square > 0.5
    ):
        return f"sqrt({round(square)})"
    return f"{value:.6g}"


def _counts(x: Tensor, divisor: Tensor) -> Iterator[Alternative]:
    """A divisor that counts something: the size of an axis for it, masked places counted too."""
    whole = divisor.detach().double()
    if whole.numel() == 0 or bool((whole != whole.round()).any()) or bool((whole < 0).any()):
        return
    listed = ", ".join(f"{float(n):g}" for n in whole.flatten()[:4])
    top = int(whole.max())
    for size in range(top, top + 65):
        yield Alternative(
            f"a sum divided by the number of places that are not masked ({listed})",
            f"{size}, so that masked (padded) places are counted",
            using(size, lambda op, size: op.args[0] / size),
        )
    yield Alternative(
        f"a sum divided by a number for each ({listed})",
        "one number for all",
        lambda op: op.args[0] / op.args[1].double().mean().to(op.args[0].dtype),
    )


def reduce(op: Operation) -> Iterator[Alternative]:
    """A sum for a mean, and the other way; other axes."""
    x = first(op)
    if not isinstance(op.result, Tensor) or not x.is_floating_point():
        return
    n = x.numel() / max(op.result.numel(), 1)
    other = "sum" if op.name == "mean" else "mean"
    factor = n if op.name == "mean" else 1 / n
    yield Alternative(
        f"a {op.name} over {n:g} numbers", f"a {other}", lambda op: op.plain() * factor
    )
    if op.result.ndim == 0:
        for axis, size in enumerate(x.shape):
            if 1 < size < x.numel():
                words = f"the sum divided by {size}, the size of axis {axis}"
                yield Alternative(
                    f"a {op.name} over all {n:g} numbers",
                    words,
                    using(size, lambda op, size: first(op).sum() / size),
                )
        return
    axes = op.argument("dim", 1)
    keep = bool(op.argument("keepdim", 2, False))
    if isinstance(axes, int):
        for axis in range(x.ndim):
            if axis != axes % x.ndim and x.shape[axis] > 1:
                yield Alternative(
                    f"a {op.name} over axis {axes % x.ndim} of {tuple(x.shape)}",
                    f"one over axis {axis}",
                    using(
                        axis,
                        lambda op, axis: getattr(torch, op.name)(first(op), axis, keepdim=keep),
                    ),
                )


def shift(op: Operation) -> Iterator[Alternative]:
    """An addition: an epsilon, a sign, a term left out, or one broadcast over all pairs."""
    if len(op.args) < 2:
        return
    x, other = op.args[0], op.args[1]
    if _is_number(other) and isinstance(x, Tensor):
        if 0 <= abs(float(other)) <= 1e-2 and op.name == "add":
            for value in EPSILONS:
                if value != other:
                    yield Alternative(
                        f"{float(other):g} added (epsilon)",
                        f"{value:g}",
                        using(value, lambda op, value: op.args[0] + value),
                    )
        yield Alternative(
            f"{float(other):g} {'added' if op.name == 'add' else 'subtracted'}",
            "nothing of it",
            lambda op: op.args[0] * 1.0,
        )
        return
    if not isinstance(x, Tensor) or not isinstance(other, Tensor) or not x.is_floating_point():
        return
    if x.shape == other.shape and (x.ndim == 1 or 1 in x.shape):
        yield Alternative(
            f"{_word(op)} of {x.numel()} numbers, one by one",
            "all pairs: (N, 1) and (N,) broadcast to (N, N)",
            lambda op: op.function(op.args[0].reshape(-1, 1), op.args[1].reshape(1, -1)),
        )
    yield from _terms(op, x, other)


def _word(op: Operation) -> str:
    return "a difference" if op.name in ("sub", "rsub") else "a sum"


def _terms(op: Operation, x: Tensor, other: Tensor) -> Iterator[Alternative]:
    """The second term with the other sign; either term alone, where it has the whole shape."""
    minus = op.name == "sub"
    sizes = f"{tuple(x.shape)} and {tuple(other.shape)}"
    yield Alternative(
        f"{_word(op)} of {sizes}",
        "the second of the other sign",
        lambda op: op.args[0] + op.args[1] if minus else op.args[0] - op.args[1],
    )
    ones: dict[str, Callable[[Operation], Tensor]] = {
        "the first": lambda op: op.args[0],
        "the second": lambda op: -op.args[1] if minus else op.args[1],
    }
    for words, part in ones.items():
        if (x if words == "the first" else other).shape == op.result.shape:
            yield Alternative(
                f"{_word(op)} of {sizes}",
                f"{words} alone",
                using(part, lambda op, part: part(op) * 1.0),
            )


def product(op: Operation) -> Iterator[Alternative]:
    """A matrix product scaled by its inner size, or with one factor transposed."""
    x, y = op.args[0], op.args[1]
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.ndim < 1:
        return
    for words, value in (("sqrt(D)", math.sqrt(x.shape[-1])), ("D", float(x.shape[-1]))):
        yield Alternative(
            "scores that are not divided",
            f"scores divided by {words}, D = {x.shape[-1]} (their scale)",
            using(value, lambda op, value: op.plain() / value),
        )
    if y.ndim > 1 and y.shape[-1] == y.shape[-2]:
        yield Alternative(
            "a product",
            "its second factor transposed",
            lambda op: op.function(op.args[0], op.args[1].transpose(-1, -2)),
        )


def power(op: Operation) -> Iterator[Alternative]:
    """Another exponent."""
    if not _is_number(op.args[1]):
        return
    for value in (1.0, 2.0, 3.0, 0.5, -0.5, -1.0):
        if value != op.args[1]:
            yield Alternative(
                f"the power {op.args[1]:g}",
                f"the power {value:g}",
                using(value, lambda op, value: op.args[0] ** value),
            )


def gain(op: Operation) -> Iterator[Alternative]:
    """A gain w that is 1 + w in the other."""
    for number, x in enumerate(op.args[:2]):
        if isinstance(x, torch.nn.Parameter):
            yield Alternative(
                "a factor that is a parameter, w",
                "the factor 1 + w",
                using(
                    number,
                    lambda op, number: op.function(
                        *(x + 1 if i == number else x for i, x in enumerate(op.args[:2]))
                    ),
                ),
            )


def _mul(op: Operation) -> Iterator[Alternative]:
    yield from gain(op)
    yield from scale(op)


FAMILY: dict[str, Alternatives] = {
    "mul": _mul,
    "div": scale,
    "rdiv": scale,
    **dict.fromkeys(["mean", "sum"], reduce),
    **dict.fromkeys(["add", "sub", "rsub"], shift),
    "matmul": product,
    "pow": power,
}
