"""Masks and biases of scores: the other sense, one place on, left out, of another slope."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    tensor,
    using,
)
from twingrad.foreign import Tree
from twingrad.torch_replay import Operation

Remask = Callable[[Tensor], Tensor]
# What is hidden is this low: where a whole row is hidden, its weights are then equal, and not NaN.
LOW = -1e30


def _after(mask: Tensor, by: int, fill: bool) -> Tensor:
    """A mask moved by one along the last axis.

    What comes in is what the same diagonal holds where the mask is square, else ``fill``.
    """
    moved = torch.roll(mask, by, -1)
    edge = moved[..., 0] if by > 0 else moved[..., -1]
    if mask.ndim > 1 and mask.shape[-1] == mask.shape[-2]:
        whole = mask[..., 0] if by > 0 else mask[..., -1]
        near = torch.roll(whole, -by, -1)
        near[..., -1 if by > 0 else 0] = whole[..., -1 if by > 0 else 0]
        edge.copy_(near)
    else:
        edge.fill_(fill)
    return moved


# Of a mask that says what is hidden.
_REMASKS: dict[str, Remask] = {
    "the mask's other sense: what it hides is shown, and the rest hidden": torch.logical_not,
    "no mask": torch.zeros_like,
    "a mask that hides one more position on the left of each window": lambda m: (
        m | _after(m, 1, False)
    ),
    "a mask that lets one more position through on the left of each window": lambda m: (
        m & _after(m, -1, True)
    ),
    "a mask that hides a position from itself": lambda m: m | _after(m, -1, True),
    "a mask that lets one future position through": lambda m: m & _after(m, 1, False),
    "a mask turned round, queries for keys": lambda m: m.transpose(-1, -2),
    "a mask that stands one place on": lambda m: torch.roll(m, 1, -1),
    "a mask that stands one place back": lambda m: torch.roll(m, -1, -1),
}


def _remasks(mask: Tensor) -> Iterator[tuple[str, Remask]]:
    for words, change in _REMASKS.items():
        square = mask.ndim > 1 and mask.shape[-1] == mask.shape[-2]
        if mask.ndim and (square or ("window" not in words and "queries" not in words)):
            yield words, change


def fill(op: Operation) -> Iterator[Alternative]:
    """``masked_fill`` by another mask."""
    mask = tensor(op.argument("mask", 1))
    low = op.argument("value", 2) == -math.inf

    def changed(op: Operation, change: Remask) -> Tree:
        hides = change(op.argument("mask", 1))
        return op.again(mask_1=hides, value_2=LOW) if low else op.again(mask_1=hides)

    yield from _hidden(mask, changed)


def choose(op: Operation) -> Iterator[Alternative]:
    """``where`` by another mask: its first choice is what is kept, else what is filled in."""
    if len(op.args) < 3:
        return
    condition, _, filled = op.args[:3]
    if not isinstance(condition, Tensor) or condition.dtype != torch.bool:
        return
    keeps = not isinstance(filled, Tensor) or filled.numel() == 1

    def changed(op: Operation, change: Remask) -> Tree:
        mask = op.args[0]
        return op.again(condition_0=~change(~mask) if keeps else change(mask))

    yield from _hidden(condition, changed)


def _hidden(mask: Tensor, apply: Callable[[Operation, Remask], Tree]) -> Iterator[Alternative]:
    for words, change in _remasks(mask):
        yield Alternative("its mask", words, using(change, lambda op, change: apply(op, change)))


def triangle(op: Operation) -> Iterator[Alternative]:
    """A triangle whose diagonal is one further."""
    diagonal = op.argument("diagonal", 1, 0)
    for other in (diagonal + 1, diagonal - 1):
        yield Alternative(
            f"{op.name} from diagonal {diagonal}",
            f"diagonal {other}",
            using(other, lambda op, other: op.again(diagonal_1=other)),
        )


def bias(op: Operation) -> Iterator[Alternative]:
    """A bias of scores that is added: of the other sign, or with other slopes."""
    if len(op.args) < 2 or not all(isinstance(x, Tensor) for x in op.args[:2]):
        return
    scores, added = op.args[0], op.args[1]
    slopes = _slopes(added) if added.ndim <= scores.ndim else None
    if slopes is None or scores.ndim < 3 or scores.shape[-1] != added.shape[-1]:
        return
    size = -1 if op.name == "sub" else 1
    own = f"a linear bias (ALiBi) of slopes {_listed(size * slopes)}"

    def times(factor: Tensor) -> Callable[[Operation], Tensor]:
        return lambda op: op.again(other_1=op.args[1] * factor)

    changes = {
        "the bias subtracted, so that its sign is turned": torch.tensor(-1.0, dtype=added.dtype),
        "no linear bias": torch.tensor(0.0, dtype=added.dtype),
    }
    heads = len(slopes)
    for factor in (2.0 ** (8 / heads), 2.0 ** (-8 / heads), 2.0, 0.5, math.sqrt(2), math.sqrt(0.5)):
        factors = torch.tensor(factor, dtype=added.dtype)
        changes.setdefault(f"slopes {_listed(size * slopes * factor)}", factors)
    for words, other in _other_slopes(heads).items():
        ratio = (other.to(slopes.dtype) / slopes.abs()).reshape(-1, 1, 1)
        changes[f"{words}, {_listed(other)}"] = ratio if added.ndim > 2 else ratio[0, 0, 0]
    for words, factor in changes.items():
        yield Alternative(own, words, times(factor))
    yield Alternative(
        own,
        "a bias by the distance, on either side",
        lambda op: op.again(other_1=-op.args[1].abs() * size),
    )


def _slopes(x: Tensor) -> Tensor | None:
    """The slopes of every head where ``x`` is linear in the position, else nothing."""
    if x.ndim < 2 or not x.is_floating_point() or x.shape[-1] < 3 or not torch.isfinite(x).all():
        return None
    steps = x[..., 1:] - x[..., :-1]
    slopes = steps.reshape(-1, *steps.shape[-2:])[:, 0, 0] if x.ndim > 2 else steps[:1, 0]
    whole = slopes.reshape(-1, 1, 1) if x.ndim > 2 else slopes
    even = bool(
        (steps.reshape(-1, *steps.shape[-2:]) - whole).abs().max() <= 1e-9 * steps.abs().max()
    )
    return slopes if even and bool((slopes != 0).all()) else None


def _other_slopes(heads: int) -> dict[str, Tensor]:
    """Slopes as the paper has them, and as many write them where heads are no power of two."""
    h = torch.arange(heads, dtype=torch.float64)
    near = 2 ** int(math.log2(heads))
    base = [2.0 ** (-8 * (i + 1) / near) for i in range(near)]
    more = [2.0 ** (-4 * (2 * i + 1) / near) for i in range(heads - near)]
    return {
        "slopes 2^(-8 (h + 1) / H)": 2.0 ** (-8 * (h + 1) / heads),
        "slopes 2^(-8 h / H)": 2.0 ** (-8 * h / heads),
        "slopes of the nearest power of two, interleaved": torch.tensor(base + more),
    }


def _listed(slopes: Tensor) -> str:
    return ", ".join(f"{float(s):.4g}" for s in slopes[:4])


def attention(op: Operation) -> Iterator[Alternative]:
    """Scaled dot products: scale, causality, mask and grouped heads."""
    query, key = op.argument("query", 0), op.argument("key", 1)
    width = query.shape[-1]
    scale = op.kwargs.get("scale") or 1 / math.sqrt(width)
    causal, mask = bool(op.argument("is_causal", 5, False)), op.argument("attn_mask", 3)
    for other, words in (
        (1.0, "scores not divided by sqrt(D)"),
        (1 / width, "scores divided by D"),
        (1 / math.sqrt(width), "scores divided by sqrt(D)"),
        (
            1 / math.sqrt(width * query.shape[-3 if query.ndim > 3 else 0]),
            "scores divided by sqrt(H D)",
        ),
    ):
        if not math.isclose(other, scale):
            yield Alternative(
                f"scores times {scale:.6g}",
                words,
                using(other, lambda op, other: op.named(scale=other)),
            )
    if mask is None:
        own = "a causal mask" if causal else "no mask"
        yield Alternative(
            own,
            "no mask" if causal else "a causal mask",
            lambda op: (
                op.again(causal_5=not causal)
                if len(op.args) > 5
                else op.named(is_causal=not causal)
            ),
        )
        if causal:
            yield from _otherwise_causal(op)
    elif mask.dtype == torch.bool:
        for text, change in _remasks(~mask):
            yield Alternative(
                "its mask",
                text,
                using(
                    change,
                    lambda op, change: _masked(
                        op, _added(change(~op.argument("attn_mask", 3)), op.argument("query", 0))
                    ),
                ),
            )
    else:
        yield Alternative("its mask", "no mask", lambda op: _masked(op, None))
    if query.shape[-3:-2] != key.shape[-3:-2] and query.ndim > 3:
        groups = query.shape[-3] // key.shape[-3]
        yield Alternative(
            f"each KV head repeated {groups} times (0 0 1 1)",
            "KV heads tiled (0 1 0 1)",
            lambda op: _tiled(op, groups),
        )


def _otherwise_causal(op: Operation) -> Iterator[Alternative]:
    """Other masks than the causal one that the function makes itself."""
    queries, keys = (op.argument(name, place).shape[-2] for name, place in _QUERY_AND_KEY)
    hides = torch.ones(queries, keys, dtype=torch.bool).triu(1)

    def compute(op: Operation, change: Remask) -> Tree:
        mask = _added(change(hides), op.argument("query", 0))
        if len(op.args) > 5:
            return op.again(mask_3=mask, causal_5=False)
        if len(op.args) > 3:
            return op.function(
                *op.args[:3], mask, *op.args[4:], **{**op.kwargs, "is_causal": False}
            )
        return op.named(attn_mask=mask, is_causal=False)

    for words, change in _remasks(hides):
        if words != "no mask":
            yield Alternative("a causal mask", words, using(change, compute))


_QUERY_AND_KEY = (("query", 0), ("key", 1))


def _tiled(op: Operation, groups: int) -> Tree:
    """The attention with keys and values tiled to as many heads as there are queries."""
    kept = ("enable_gqa", "query", "key", "value")
    key, value = (
        op.argument(name, place).repeat(*[1] * (op.argument(name, place).ndim - 3), groups, 1, 1)
        for name, place in (("key", 1), ("value", 2))
    )
    settings = {name: value for name, value in op.kwargs.items() if name not in kept}
    return op.function(op.argument("query", 0), key, value, *op.args[3:], **settings)


def _masked(op: Operation, mask: Tensor | None) -> Tree:
    if len(op.args) > 3:
        return op.again(mask_3=mask)
    return op.named(attn_mask=mask)


def multihead(op: Operation) -> Iterator[Alternative]:
    """The masks of ``torch.nn.MultiheadAttention``: True hides, where Flax's True shows."""
    for name in ("key_padding_mask", "attn_mask"):
        mask = op.kwargs.get(name)
        if mask is None:
            continue
        hides = mask if mask.dtype == torch.bool else mask < -1e4
        for text, change in (
            (
                "that mask's other sense: what it hides is shown, and the rest hidden",
                torch.logical_not,
            ),
            ("without it", None),
        ):
            value = None if change is None else _added(change(hides), op.args[0])
            yield Alternative(
                f"a mask ({name}) that hides where it is True",
                text,
                using({name: value, "is_causal": False}, lambda op, new: op.named(**new)),
            )
    yield Alternative(
        "its output projection",
        "scores divided by the square root of the whole width",
        _whole_width,
    )


def _added(hides: Tensor, like: Tensor) -> Tensor:
    """A mask that is added to scores of the dtype of ``like``."""
    return torch.zeros(hides.shape, dtype=like.dtype).masked_fill(hides, LOW)


def _whole_width(op: Operation) -> Tree:
    """Queries scaled once more, so that scores are divided by sqrt(C) for sqrt(D)."""
    width, heads = op.args[3], op.args[4]
    weight, shift = op.args[5].clone(), op.args[6]
    weight[:width] /= math.sqrt(heads)
    if shift is not None:
        shift = shift.clone()
        shift[:width] /= math.sqrt(heads)
    return op.again(weight_5=weight, bias_6=shift)


FAMILY: dict[str, Alternatives] = {
    "masked_fill": fill,
    "where": choose,
    "tril": triangle,
    "triu": triangle,
    "add": bias,
    "sub": bias,
    "scaled_dot_product_attention": attention,
    "multi_head_attention_forward": multihead,
}
