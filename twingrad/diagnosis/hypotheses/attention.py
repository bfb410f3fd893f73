"""Ways to compute causal self-attention from one tensor of queries, keys and values."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from twingrad.diagnosis.hypotheses import dropout
from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, Context, Hypothesis, rounded
from twingrad.foreign import Array

Change = Callable[[Array], Array]
Part = Literal["scores", "masked scores", "weights", "output"]


def _same(x: Array) -> Array:
    return x


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Attention with every choice open; as it stands, and with ``heads``, GPT-2's."""

    heads: int
    scale: float | None = None  # of the scores, 1/sqrt(D) if none is set
    mask: Literal["causal", "none", "ahead", "strict", "future"] = "causal"
    axis: int | None = -1  # of the softmax; without one there is no softmax
    order: str = "qkv"
    per_head: bool = False
    cut: bool = False
    merge: Literal["hd", "dh", "time"] = "hd"
    inputs: Change = _same
    scores: Change = _same
    weights: Change = _same

    def compute(self, qkv: Array, part: Part = "output") -> Array:
        """The output for ``qkv`` [B, T, 3 C], or an intermediate tensor."""
        B, T, width = qkv.shape
        C = width // 3
        q, k, v = self._projections(qkv)
        scale = 1 / math.sqrt(C // self.heads) if self.scale is None else self.scale
        s: Array = self.scores(q @ k.swapaxes(-1, -2) * scale)
        if part == "scores":
            return s
        if part == "masked scores":
            return np.where(self._seen(T), s, -np.inf)
        w = self._weights(s)
        if part == "weights":
            return w
        y: Array = self.weights(w) @ v  # (B, H, T, D)
        if self.merge == "dh":
            return y.transpose(0, 2, 3, 1).reshape(B, T, C)
        if self.merge == "time":
            return y.reshape(B, T, C)
        return y.swapaxes(1, 2).reshape(B, T, C)

    def _projections(self, qkv: Array) -> Iterator[Array]:
        """Queries, keys and values, each (B, H, T, D)."""
        B, T, width = qkv.shape
        H, D = self.heads, width // 3 // self.heads
        if self.per_head:
            pieces = np.split(qkv.reshape(B, T, H, 3 * D), 3, axis=-1)
        else:
            pieces = [
                p.reshape(B, T, D, H).swapaxes(2, 3) if self.cut else p.reshape(B, T, H, D)
                for p in np.split(qkv, 3, axis=-1)
            ]
        parts = dict(zip(self.order, pieces, strict=True))
        return (self.inputs(parts[name]).swapaxes(1, 2) for name in "qkv")

    def _seen(self, T: int) -> Array:
        """For every position, the positions that it attends to."""
        ones = np.ones((T, T), bool)
        seen: dict[str, Array] = {
            "causal": np.tril(ones),
            "none": ones,
            "ahead": np.tril(ones, 1),
            "strict": np.tril(ones, -1) | np.eye(T, dtype=bool) * (np.arange(T) == 0),
            "future": np.triu(ones),
        }
        return seen[self.mask]

    def _weights(self, scores: Array) -> Array:
        seen = self._seen(scores.shape[-1])
        if self.axis is None:
            return np.where(seen, scores, 0)
        masked = np.where(seen, scores, -np.inf)
        top = masked.max(self.axis, keepdims=True)
        exp = np.exp(masked - np.where(np.isfinite(top), top, 0))
        return np.asarray(exp / exp.sum(self.axis, keepdims=True))


def attention(context: Context) -> Iterator[Hypothesis]:
    """Causal self-attention over heads, from one tensor of queries, keys and values."""
    shape = context.torch.shape
    if len(shape) == 4 and shape[2] == shape[3]:
        yield from _inside(context, Attention(heads=shape[1]))
    if len(shape) != 3:
        return
    C = shape[-1]
    for qkv in _projected(context, C):
        for heads in _divisors(C):
            plain = Attention(heads=heads)
            usual = list(_dropped(context, plain, qkv))
            usual = usual or [("as GPT-2 has it", plain.compute(qkv))]
            if any(context.fits(y, x) for _, y in usual for x in (context.torch, context.jax)):
                yield from ((f"attention {name}", y) for name, y in usual)
                for name, changed in _changes(plain, C):
                    yield f"attention {name}", changed.compute(qkv)
                return


def _projected(context: Context, C: int) -> Iterator[Array]:
    return (x for x in context.sources.values() if x.ndim == 3 and x.shape[-1] == 3 * C)


def _inside(context: Context, plain: Attention) -> Iterator[Hypothesis]:
    """Intermediate tensors of shape (B, H, T, T)."""
    parts: tuple[Part, ...] = ("weights", "scores", "masked scores")
    for qkv in context.sources.values():
        if qkv.ndim == 3 and qkv.shape[-1] % (3 * plain.heads) == 0:
            for part in parts:
                yield f"attention's {part}", plain.compute(qkv, part)


def _dropped(context: Context, plain: Attention, qkv: Array) -> Iterator[Hypothesis]:
    """With the dropout layers of the same module; where there are none, nothing."""
    for name, (rate, key) in context.dropouts.items():
        if name.rpartition(".")[0] == context.path:
            drop = partial(dropout.dropped, rate=rate, key=key)
            yield f"with its weights dropped by {name}", replace(plain, weights=drop).compute(qkv)
            yield "without dropout", plain.compute(qkv)
            yield f"with its scores dropped by {name}", replace(plain, scores=drop).compute(qkv)


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, min(n, 64) + 1) if n % k == 0]


def _changes(plain: Attention, C: int) -> Iterator[tuple[str, Attention]]:
    D = C // plain.heads
    yield "with scores not divided by sqrt(D)", replace(plain, scale=1.0)
    yield "with scores divided by D", replace(plain, scale=1 / D)
    yield "with scores divided by sqrt(C)", replace(plain, scale=1 / math.sqrt(C))
    yield "without a mask", replace(plain, mask="none")
    yield "with a mask that lets one future position through", replace(plain, mask="ahead")
    yield "with a mask that hides a position from itself", replace(plain, mask="strict")
    yield "with a mask turned round, to the future", replace(plain, mask="future")
    yield "with its softmax over queries", replace(plain, axis=-2)
    for order in ("kqv", "qvk", "vkq", "kvq", "vqk"):
        yield f"with its projection read in the order {order}", replace(plain, order=order)
    yield "with its projection cut into heads first", replace(plain, per_head=True)
    yield "with heads cut as (D, H)", replace(plain, cut=True)
    yield "with heads merged as (D, H)", replace(plain, merge="dh")
    yield "with heads merged before they go behind time", replace(plain, merge="time")
    yield "without a softmax", replace(plain, axis=None)
    for name in LOW_PRECISIONS:
        low = partial(rounded, precision=name)
        yield f"with its q, k and v rounded to {name}", replace(plain, inputs=low)
        yield f"with its softmax rounded to {name}", replace(plain, scores=low, weights=low)
        yield f"with its weights rounded to {name}", replace(plain, weights=low)
    for other in _divisors(C):
        if other != plain.heads:
            yield f"with {other} heads, not {plain.heads}", replace(plain, heads=other)
