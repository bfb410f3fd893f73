"""Attention from separate queries, keys and values, with rotary embeddings and grouped heads."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from twingrad.diagnosis.hypotheses import tables
from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.foreign import Array

MOST = 1 << 20  # numbers of scores that are worked out for a hypothesis
BASES = (10000.0, 500000.0, 1e6)
OTHER_BASES = (100.0, 1000.0, 5000.0, 50000.0, 1e5, 1e7)
Rotary = Literal["none", "halves", "pairs"]
_ROTARY: dict[Rotary, str] = {
    "none": "no rotary embedding",
    "halves": "rotary halves (0, D/2)(1, D/2 + 1)",
    "pairs": "rotary pairs (0, 1)(2, 3), interleaved",
}


@dataclass(frozen=True, kw_only=True)
class Separate:
    """Attention of queries, keys and values, each [B, T, heads D].

    ``keys`` [B, T] says which keys are seen; without it, all.
    """

    heads: int
    rotary: Rotary = "none"
    sign: float = 1.0
    base: float = 10000.0
    first: int = 0
    share: float = 1.0  # of the head's width that is turned
    turns: str = "qk"
    causal: bool = True
    scale: float | None = None
    tiled: bool = False
    merge: Literal["hd", "dh", "time"] = "hd"
    axis: int = -1  # of the softmax
    order: str = "qkv"  # in which the three are read
    keys: Array | None = None

    def compute(self, q: Array, k: Array, v: Array) -> Array:
        """The output before its projection, [B, T, heads D]."""
        parts = dict(zip(self.order, (q, k, v), strict=True))
        q, k, v = (parts[name] for name in "qkv")
        D = q.shape[-1] // self.heads
        q, k, v = (self._heads(name, x, D) for name, x in (("q", q), ("k", k), ("v", v)))
        k, v = self._grouped(k), self._grouped(v)
        scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(D) if self.scale is None else self.scale)
        if self.causal:
            queries, keys = scores.shape[-2:]
            seen = np.tri(queries, keys, keys - queries, dtype=bool)
            scores = np.where(seen, scores, -np.inf)
        if self.keys is not None:
            scores = np.where(self.keys[:, None, None, :], scores, -np.inf)
        top = scores.max(self.axis, keepdims=True)
        exp = np.exp(scores - np.where(np.isfinite(top), top, 0))
        y = exp / exp.sum(self.axis, keepdims=True) @ v  # (B, H, T, D)
        if self.merge == "time":
            return np.asarray(y.reshape(y.shape[0], y.shape[2], -1))
        order = (0, 2, 1, 3) if self.merge == "hd" else (0, 2, 3, 1)
        return np.asarray(y.transpose(order).reshape(y.shape[0], y.shape[2], -1))

    def _heads(self, name: str, x: Array, D: int) -> Array:
        """``x`` cut into heads [B, H, T, D], and turned where it is."""
        B, T, _ = x.shape
        cut: Array = x.reshape(B, T, -1, D).swapaxes(1, 2)
        return self._turned(cut) if name in self.turns else cut

    def _grouped(self, x: Array) -> Array:
        times = self.heads // x.shape[1]
        if times == 1:
            return x
        return np.tile(x, (1, times, 1, 1)) if self.tiled else np.repeat(x, times, 1)

    def _turned(self, x: Array) -> Array:
        """``x`` [B, H, T, D] with a rotary embedding."""
        if self.rotary == "none":
            return x
        width = int(x.shape[-1] * self.share) // 2 * 2
        turned, rest = x[..., :width], x[..., width:]
        half = np.arange(0, width, 2) / width
        angle = np.arange(self.first, x.shape[2] + self.first)[:, None] / self.base**half
        cos, sin = np.cos(angle), self.sign * np.sin(angle)
        if self.rotary == "halves":
            a, b = np.split(turned, 2, axis=-1)
            y = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
        else:
            a, b = turned[..., ::2], turned[..., 1::2]
            y = np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(turned.shape)
        return np.concatenate([y, rest], -1)


def separate(context: Context) -> Iterator[Hypothesis]:
    """Attention that fits PyTorch, and everything that differs from it in one choice."""
    if context.torch.ndim != 3 or context.stage != "forward":
        return
    for q, k, v in _triples(context.sources):
        if not _fit_together(q, k, v, context.torch):
            continue
        plain = _plain(context, q, k, v)
        if plain is not None:
            yield _named(plain, plain), plain.compute(q, k, v)
            for other in _changes(plain, q.shape[-1], k.shape[-1]):
                yield _named(other, plain), other.compute(q, k, v)
            return


def _triples(sources: Mapping[str, Array]) -> Iterator[tuple[Array, Array, Array]]:
    """Queries, keys and values: by the names of the modules that give them, else in their order."""
    three = {n: x for n, x in sources.items() if x.ndim == 3 and not n.startswith("its input")}
    by_letter: dict[str, Array] = {}
    for name, x in three.items():
        last = name.rpartition(".")[2].lower().removesuffix("_proj").removesuffix("_linear")
        for letter, words in (("q", "query"), ("k", "key"), ("v", "value")):
            if last in (letter, words, f"{words}s", f"w{letter}", f"to_{letter}", f"{letter}_norm"):
                by_letter[letter] = x
    if len(by_letter) == 3:
        yield by_letter["q"], by_letter["k"], by_letter["v"]
    if len(three) == 3 and len(by_letter) < 3:
        q, k, v = three.values()
        yield q, k, v


def _fit_together(q: Array, k: Array, v: Array, y: Array) -> bool:
    B, T, width = y.shape
    return (
        q.shape == y.shape
        and k.shape == v.shape
        and k.shape[0] == B
        and width % k.shape[-1] == 0
        and B * T * k.shape[1] * 64 <= MOST
    )


def _plain(context: Context, q: Array, k: Array, v: Array) -> Separate | None:
    """The attention that PyTorch computes, among the usual ones."""
    width, groups = q.shape[-1], q.shape[-1] // k.shape[-1]
    rotaries: tuple[Rotary, ...] = ("halves", "none", "pairs")
    for heads in (n for n in range(1, 65) if width % n == 0 and n % groups == 0):
        D = width // heads
        for rotary, causal, scale in itertools.product(rotaries, (True, False), (None, 1.0)):
            if rotary != "none" and D % 2:
                continue
            kind = Separate(heads=heads, rotary=rotary, causal=causal, scale=scale)
            for base in _bases(context) if rotary != "none" else (10000.0,):
                guess = replace(kind, base=base)
                for tiled in (False, True) if groups > 1 else (False,):
                    for keys in _key_masks(context, k):
                        choice = replace(guess, tiled=tiled, keys=keys)
                        if context.fits(choice.compute(q, k, v), context.torch):
                            return choice
    return None


def _bases(context: Context) -> list[float]:
    """Bases of rotary embeddings: those of tables that the module is given, and the usual ones."""
    given = [tables.base_of(x) for x in context.sources.values() if x.ndim > 1]
    found = [base for base in given if base is not None]
    return list(dict.fromkeys((*found, *BASES)))


def _key_masks(context: Context, k: Array) -> Iterator[Array | None]:
    """No mask, and arrays of the batch that mark some of the keys."""
    yield None
    for array in context.batch:
        marks = array.shape == k.shape[:2] and array.dtype.kind in "biu"
        if marks and set(np.unique(array).tolist()) == {0, 1}:
            yield array.astype(bool)


def _changes(plain: Separate, width: int, key_width: int) -> Iterator[Separate]:
    """Everything that differs in one choice."""
    D = width // plain.heads
    yield replace(plain, causal=not plain.causal)
    if plain.keys is not None:
        yield replace(plain, keys=None)
        yield replace(plain, keys=~plain.keys)
    if width != key_width:
        yield replace(plain, tiled=not plain.tiled)
    for rotary in _ROTARY:
        if rotary != plain.rotary and (rotary == "none" or D % 2 == 0):
            yield replace(plain, rotary=rotary)
    if plain.rotary != "none":
        yield replace(plain, sign=-plain.sign)
        for base in (*BASES, *OTHER_BASES):
            yield replace(plain, base=base)
        yield replace(plain, first=1)
        for turns in ("q", "k", "qkv"):
            yield replace(plain, turns=turns)
        for share in (0.5, 0.25):
            yield replace(plain, share=share)
    for scale in (1 / math.sqrt(D), 1.0, 1 / D, 1 / math.sqrt(width), math.sqrt(D)):
        yield replace(plain, scale=scale)
    yield replace(plain, merge="dh")
    yield replace(plain, merge="time")
    yield replace(plain, axis=-2)
    for order in ("kqv", "qvk", "vkq", "kvq", "vqk") if width == key_width else ():
        yield replace(plain, order=order)
    for heads in (n for n in range(1, 65) if width % n == 0 and n != plain.heads):
        even = heads % (width // key_width) == 0
        if even and (plain.rotary == "none" or (width // heads) % 2 == 0):
            yield replace(plain, heads=heads)


def _named(kind: Separate, plain: Separate) -> str:
    """The choices in which an attention differs from PyTorch's, and those that they differ from."""
    words = []
    if kind is plain:
        words += [f"{plain.heads} heads", _ROTARY[plain.rotary]]
        words += ["KV heads tiled (0 1 0 1)" if plain.tiled else "KV heads repeated (0 0 1 1)"]
        words += ["a causal mask" if plain.causal else "no mask"]
        words += ["padding hidden"] if plain.keys is not None else []
        words += ["scores not divided by sqrt(D)"] if plain.scale == 1.0 else []
        return f"attention with {', '.join(words)}"
    words += [_ROTARY[kind.rotary]] if kind.rotary != plain.rotary else []
    words += ["rotary sines of the other sign"] if kind.sign != plain.sign else []
    words += [f"rotary base {kind.base:g}"] if kind.base != plain.base else []
    words += [f"rotary positions from {kind.first}"] if kind.first != plain.first else []
    words += [f"{kind.share:g} of each head turned (rotary)"] if kind.share != plain.share else []
    words += [f"{' and '.join(kind.turns)} turned (rotary)"] if kind.turns != plain.turns else []
    if kind.tiled != plain.tiled:
        words += ["KV heads tiled (0 1 0 1)" if kind.tiled else "KV heads repeated (0 0 1 1)"]
    if kind.causal != plain.causal:
        words += ["a causal mask" if kind.causal else "no mask"]
    if kind.keys is not plain.keys:
        words += ["padding seen" if kind.keys is None else "its mask of padding turned round"]
    words += [f"scores times {kind.scale:.6g}"] if kind.scale != plain.scale else []
    words += ["heads merged as (D, H)"] if kind.merge == "dh" else []
    words += ["heads merged before they go behind time"] if kind.merge == "time" else []
    words += ["its softmax over queries"] if kind.axis != plain.axis else []
    if kind.order != plain.order:
        names = {"q": "queries", "k": "keys", "v": "values"}
        read = ", ".join(names[letter] for letter in kind.order)
        words += [f"queries, keys and values taken for {read}"]
    words += [f"{kind.heads} heads"] if kind.heads != plain.heads else []
    return f"attention with {', '.join(words)}"
