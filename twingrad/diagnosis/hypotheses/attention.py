"""Ways to compute causal self-attention from one tensor of queries, keys and values."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from twingrad.diagnosis.hypotheses import dropout
from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, Guess, Scene, rounded

Change = Callable[[np.ndarray], np.ndarray]


def attention(scene: Scene) -> Iterator[Guess]:
    """Causal self-attention over heads, from one tensor of queries, keys and values."""
    shape = scene.torch.shape
    if len(shape) == 4 and shape[2] == shape[3]:
        yield from _inside(scene, heads=shape[1])
    if len(shape) != 3:
        return
    C = shape[-1]
    for qkv in _wide(scene, C):
        for heads in _divisors(C):
            plain = partial(_attend, qkv, heads=heads)
            usual = list(_dropped(scene, plain)) or [("as GPT-2 has it", plain())]
            if any(scene.fits(y, side) for _, y in usual for side in (scene.torch, scene.jax)):
                yield from ((f"attention {name}", y) for name, y in usual)
                for name, change in _changes(heads, C // heads, C):
                    yield f"attention {name}", plain(**change)
                return


def _wide(scene: Scene, C: int) -> Iterator[np.ndarray]:
    return (x for x in scene.sources.values() if x.ndim == 3 and x.shape[-1] == 3 * C)


def _inside(scene: Scene, heads: int) -> Iterator[Guess]:
    """What is looked at on the way, of shape (B, H, T, T)."""
    for qkv in scene.sources.values():
        if qkv.ndim == 3 and qkv.shape[-1] % (3 * heads) == 0:
            for part in ("weights", "scores", "masked scores"):
                yield f"attention's {part}", _attend(qkv, heads, part=part)


def _dropped(scene: Scene, plain: Callable) -> Iterator[Guess]:
    """With the dropout layers of the same module; where there are none, nothing."""
    for name, (rate, key) in scene.dropouts.items():
        if name.rpartition(".")[0] == scene.path:
            drop = partial(dropout.dropped, rate=rate, key=key)
            yield f"with its weights dropped by {name}", plain(weights=drop)
            yield "without dropout", plain()
            yield f"with its scores dropped by {name}", plain(scores=drop)


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, min(n, 64) + 1) if n % k == 0]


def _changes(heads: int, D: int, C: int) -> Iterator[tuple[str, dict]]:
    yield "with scores not divided by sqrt(D)", {"scale": 1.0}
    yield "with scores divided by D", {"scale": 1 / D}
    yield "with scores divided by sqrt(C)", {"scale": 1 / math.sqrt(C)}
    yield "without a mask", {"mask": "none"}
    yield "with a mask that lets one future position through", {"mask": "ahead"}
    yield "with a mask that hides a position from itself", {"mask": "strict"}
    yield "with a mask turned round, to the future", {"mask": "future"}
    yield "with its softmax over queries", {"axis": -2}
    for order in ("kqv", "qvk", "vkq", "kvq", "vqk"):
        yield f"with its projection read in the order {order}", {"order": order}
    yield "with its projection cut into heads first", {"per_head": True}
    yield "with heads cut as (D, H)", {"cut": True}
    yield "with heads merged as (D, H)", {"merge": "dh"}
    yield "with heads merged before they go behind time", {"merge": "time"}
    yield "without a softmax", {"axis": 0}
    for name in LOW_PRECISIONS:
        low = partial(rounded, precision=name)
        yield f"with its q, k and v rounded to {name}", {"inputs": low}
        yield f"with its softmax rounded to {name}", {"scores": low, "weights": low}
        yield f"with its weights rounded to {name}", {"weights": low}
    for other in _divisors(C):
        if other != heads:
            yield f"with {other} heads, not {heads}", {"heads": other}


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _attend(
    qkv: np.ndarray,
    heads: int,
    scale: float | None = None,
    mask: str = "causal",
    axis: int = -1,
    order: str = "qkv",
    per_head: bool = False,
    cut: bool = False,
    merge: str = "hd",
    inputs: Change = _same,
    scores: Change = _same,
    weights: Change = _same,
    part: str = "",
) -> np.ndarray:
    """Attention written out, with every choice open; ``part`` asks for what it is on the way."""
    B, T, width = qkv.shape
    C = width // 3
    D = C // heads
    if per_head:
        parts = dict(zip(order, np.split(qkv.reshape(B, T, heads, 3 * D), 3, axis=-1), strict=True))
    else:
        pieces = [p.reshape(B, T, D, heads).swapaxes(2, 3) if cut else p.reshape(B, T, heads, D)
                  for p in np.split(qkv, 3, axis=-1)]  # fmt: skip
        parts = dict(zip(order, pieces, strict=True))
    q, k, v = (inputs(parts[name]).swapaxes(1, 2) for name in "qkv")
    s = scores(q @ k.swapaxes(-1, -2) * (1 / math.sqrt(D) if scale is None else scale))
    if part == "scores":
        return s
    ones = np.ones((T, T), bool)
    seen = {
        "causal": np.tril(ones),
        "none": ones,
        "ahead": np.tril(ones, 1),
        "strict": np.tril(ones, -1) | np.eye(T, dtype=bool) * (np.arange(T) == 0),
        "future": np.triu(ones),
    }[mask]
    if axis == 0:
        w = np.where(seen, s, 0)
    else:
        s = np.where(seen, s, -np.inf)
        if part == "masked scores":
            return s
        top = s.max(axis, keepdims=True)
        w = np.exp(s - np.where(np.isfinite(top), top, 0))
        w = w / w.sum(axis, keepdims=True)
    if part == "weights":
        return w
    y = weights(w) @ v  # (B, H, T, D)
    if merge == "dh":
        return y.transpose(0, 2, 3, 1).reshape(B, T, C)
    if merge == "time":
        return y.reshape(B, T, C)
    return y.swapaxes(1, 2).reshape(B, T, C)
