"""Activations, softmax and normalisations with other settings than PyTorch's."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from twingrad.diagnosis.hypotheses.changes.alternative import (
    Alternative,
    Alternatives,
    Settings,
    first,
    using,
)
from twingrad.foreign import Tree
from twingrad.torch_replay import Operation

EPSILONS = (1e-5, 1e-6, 1e-12, 1e-8, 1e-3, 1e-2, 1e-4, 1e-7, 1e-10, 0.0)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "GELU by erf": F.gelu,
    "GELU as x sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "ReLU": torch.relu,
    "SiLU": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "ELU": F.elu,
    "softplus": F.softplus,
    "leaky ReLU with slope 0.01": lambda x: F.leaky_relu(x, 0.01),
    "leaky ReLU with slope 0.1": lambda x: F.leaky_relu(x, 0.1),
    "leaky ReLU with slope 0.2": lambda x: F.leaky_relu(x, 0.2),
    "ReLU6": F.relu6,
    "SELU": F.selu,
    "Mish": F.mish,
    "hard sigmoid": F.hardsigmoid,
    "hard sigmoid as 0.2 x + 0.5": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "hard swish": F.hardswish,
    "no activation": torch.clone,
}
_NAMES = {
    "relu": "ReLU", "silu": "SiLU", "tanh": "tanh", "sigmoid": "sigmoid", "elu": "ELU",
    "softplus": "softplus", "relu6": "ReLU6", "selu": "SELU", "mish": "Mish", "hardsigmoid":
    "hard sigmoid", "hardswish": "hard swish",
}  # fmt: skip


def activation(op: Operation) -> Iterator[Alternative]:
    """Every other activation."""
    name = _NAMES.get(op.name, op.name)
    if op.name == "gelu":
        name = "GELU by tanh" if op.kwargs.get("approximate") == "tanh" else "GELU by erf"
    if op.name == "leaky_relu":
        name = f"leaky ReLU with slope {op.argument('negative_slope', 1, 0.01):g}"
    for other, function in ACTIVATIONS.items():
        if other != name:
            yield Alternative(
                name, other, using(function, lambda changed, function: function(first(changed)))
            )


def softmax(op: Operation) -> Iterator[Alternative]:
    """Over another axis, or of scores that are scaled."""
    x, axis = first(op), op.argument("dim", 1, -1)
    if axis is None:
        return
    for other in range(x.ndim):
        if other != axis % x.ndim:
            yield Alternative(
                f"a softmax over axis {axis % x.ndim} of {x.ndim}",
                f"one over axis {other}",
                Settings("dim", 1).to(other),
            )
    for n in sorted({n for n in x.shape if n > 1}):
        for word, factor in ((f"divided by {n}", 1 / n), (f"times {n}", float(n))):
            yield Alternative(
                "scores as they are", f"scores {word} before the softmax", _scaled(factor)
            )


def _scaled(factor: float) -> Callable[[Operation], Tensor]:
    return lambda op: op.again(input_0=first(op) * factor)


def norm(op: Operation) -> Iterator[Alternative]:
    """LayerNorm and its kin: epsilon, gain, bias, centring, axes and groups."""
    position = {"layer_norm": 4, "rms_norm": 3, "group_norm": 4, "batch_norm": 7}.get(op.name, 7)
    epsilon = op.argument("eps", position, 1e-5)
    for other in EPSILONS:
        if epsilon is not None and other != epsilon:
            yield Alternative(
                f"epsilon {epsilon:g} in a norm",
                f"epsilon {other:g}",
                Settings("eps", position).to(other),
            )
    more = {
        "layer_norm": _layer_norm, "rms_norm": _rms_norm, "group_norm": _group_norm,
        "instance_norm": _instance_norm,
    }  # fmt: skip
    if op.name in more:
        yield from more[op.name](op)


def _parameters(op: Operation) -> tuple[Tensor | None, Tensor | None]:
    return op.argument("weight", 2), op.argument("bias", 3)


def _layer_norm(op: Operation) -> Iterator[Alternative]:
    weight, bias = _parameters(op)
    if weight is not None:
        yield Alternative("the gain", "one more than it, 1 + gain", _gain_more)
        yield Alternative("its gain", "no gain", Settings("weight", 2).to(None))
    if bias is not None:
        yield Alternative("its bias", "no bias", Settings("bias", 3).to(None))
    for name, unbiased, centred in (
        ("a variance over n - 1", 1, True),
        ("x divided by its root mean square, not centred", 0, False),
    ):
        yield Alternative("LayerNorm", name, _by_hand(unbiased, centred, outside=False))
    for unbiased, name in ((0, ""), (1, ", over n - 1")):
        yield Alternative(
            "LayerNorm", f"epsilon added to the deviation{name}", _by_hand(unbiased, True, True)
        )
    x = first(op)
    for axes in {(1,), tuple(range(1, x.ndim)), (0,)} - {(x.ndim - 1,)}:
        yield Alternative("a norm over the last axis", f"one over axes {axes}", _over(axes))


def _gain_more(op: Operation) -> Tensor:
    out: Tensor = op.again(weight_2=op.argument("weight", 2) + 1)
    return out


def _by_hand(unbiased: int, centred: bool, outside: bool) -> Callable[[Operation], Tensor]:
    def compute(op: Operation) -> Tensor:
        x = first(op)
        axes = list(range(x.ndim - len(op.argument("normalized_shape", 1)), x.ndim))
        middle = x - x.mean(axes, keepdim=True) if centred else x
        n = math.prod(x.shape[a] for a in axes)
        variance = (middle**2).sum(axes, keepdim=True) / max(n - unbiased, 1)
        epsilon = op.argument("eps", 4, 1e-5)
        root = variance.sqrt() + epsilon if outside else (variance + epsilon).sqrt()
        return _learned(op, middle / root)

    return compute


def _over(axes: tuple[int, ...]) -> Callable[[Operation], Tensor]:
    def compute(op: Operation) -> Tensor:
        x = first(op)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return _learned(op, (x - mean) / (variance + op.argument("eps", 4, 1e-5)).sqrt())

    return compute


def _learned(op: Operation, y: Tensor) -> Tensor:
    weight, bias = _parameters(op)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _rms_norm(op: Operation) -> Iterator[Alternative]:
    if op.argument("weight", 2) is not None:
        yield Alternative("the gain", "one more than it, 1 + gain", _gain_more)
    if op.argument("eps", 3) is None:
        for other in EPSILONS:
            yield Alternative(
                "the dtype's own epsilon in a norm",
                f"epsilon {other:g}",
                Settings("eps", 3).to(other),
            )


def _group_norm(op: Operation) -> Iterator[Alternative]:
    groups, channels = op.argument("num_groups", 1), first(op).shape[1]
    yield Alternative(
        f"{groups} groups of neighbouring channels",
        f"groups of channels that are {groups} apart",
        lambda op: _interleaved(op, channels // groups),
    )
    yield Alternative(
        f"{groups} groups of {channels // groups} channels",
        f"groups of channels that are {channels // groups} apart",
        lambda op: _interleaved(op, groups),
    )
    for other in (n for n in range(1, channels + 1) if channels % n == 0 and n != groups):
        yield Alternative(
            f"{groups} groups of channels", f"{other}", Settings("num_groups", 1).to(other)
        )
    yield Alternative(
        "its gain and bias",
        "neither",
        lambda op: op.again(weight_2=None, bias_3=None),
    )


def _instance_norm(op: Operation) -> Iterator[Alternative]:
    """A mean and a variance over other axes than those of each channel of each image."""
    axes = range(2, first(op).ndim)
    for others, words in (
        ((1, *axes), "over its channels too (a layer norm)"),
        ((0, *axes), "over the batch too (a batch norm)"),
        ((1,), "over its channels alone"),
    ):
        yield Alternative(
            "a norm over each channel of each image (an instance norm)",
            f"one {words}",
            using(others, _over_channels),
        )


def _over_channels(op: Operation, axes: tuple[int, ...]) -> Tensor:
    x = first(op)
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    y = (x - mean) / (variance + op.argument("eps", 7, 1e-5)).sqrt()
    weight, bias = (
        p if p is None else p.reshape(-1, *[1] * (x.ndim - 2))
        for p in (op.argument("weight", 3), op.argument("bias", 4))
    )
    y = y if weight is None else y * weight
    shifted: Tensor = y if bias is None else y + bias
    return shifted


def weight_norm(op: Operation) -> Iterator[Alternative]:
    """The norm of a weight over its other axis, or over all of it."""
    v, dim = op.args[0], op.argument("dim", 2, 0)

    def compute(op: Operation, kept: int | None) -> Tensor:
        v, g = op.args[:2]
        axes = [axis for axis in range(v.ndim) if axis != kept]
        return torch.as_tensor(g * v / torch.linalg.vector_norm(v, dim=axes, keepdim=True))

    for kept in (*(axis for axis in range(v.ndim) if axis != dim), None):
        words = "all of it" if kept is None else f"each slice along axis {kept}"
        yield Alternative(
            f"a weight norm of each slice along axis {dim}",
            f"the norm of {words}",
            using(kept, compute),
        )


def largest(op: Operation) -> Iterator[Alternative]:
    """The largest numbers, as they are or made to add up to one."""

    def compute(op: Operation) -> Tree:
        values, places = op.plain()
        return values / values.sum(-1, keepdim=True), places

    yield Alternative("the largest as they are", "divided by their sum", compute)


def _interleaved(op: Operation, size: int) -> Tensor:
    """Groups over channels that are ``channels // size`` apart."""
    x, groups = first(op), op.argument("num_groups", 1)
    order = torch.arange(x.shape[1]).reshape(size, -1).T.reshape(-1)
    count = groups if size * groups == x.shape[1] else x.shape[1] // size
    y = F.group_norm(x[:, order], count, eps=op.argument("eps", 4, 1e-5))
    y = y[:, torch.argsort(order)]
    shape = (-1, *[1] * (x.ndim - 2))
    weight, bias = (p if p is None else p.reshape(shape) for p in _parameters(op))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def spread(op: Operation) -> Iterator[Alternative]:
    """A variance or deviation over n or n - 1."""
    given = op.kwargs.get("correction", op.kwargs.get("unbiased", 1))
    unbiased = given is None or bool(given)
    if "unbiased" not in op.kwargs and any(isinstance(a, bool) for a in op.args[1:]):
        return
    other = {k: v for k, v in op.kwargs.items() if k not in ("correction", "unbiased")}
    words = {True: "n - 1", False: "n"}
    yield Alternative(
        f"a {'variance' if 'var' in op.name else 'deviation'} over {words[unbiased]}",
        f"one over {words[not unbiased]}",
        lambda op: op.function(*op.args, **other, correction=0 if unbiased else 1),
    )


def fft(op: Operation) -> Iterator[Alternative]:
    """A Fourier transform normalised otherwise."""
    words = {
        "backward": "divides only its inverse, by n",
        "ortho": "divides by sqrt(n) (ortho)",
        "forward": "divides only its forward way, by n",
    }
    norm = op.kwargs.get("norm") or "backward"
    for other in words.keys() - {norm}:
        yield Alternative(
            f"a Fourier transform that {words[norm]}",
            f"one that {words[other]}",
            using(other, lambda op, other: op.named(norm=other)),
        )


def lookup(op: Operation) -> Iterator[Alternative]:
    """An embedding: the row of padding, scaling, and indices that are off."""
    padding, count = op.argument("padding_idx", 2), len(op.argument("weight", 1))
    if padding is not None:
        yield Alternative(
            f"row {padding % count} of the table without a gradient (padding_idx)",
            "a gradient for every row",
            Settings("padding_idx", 2).to(None),
        )
    for by in (1, -1, 2):
        yield Alternative(
            "the indices",
            f"the indices {'plus' if by > 0 else 'less'} {abs(by)}",
            using(by, lambda op, by: op.again(input_0=(first(op) + by).clamp(0, count - 1))),
        )


_FOURIER = [f"fft_{kind}{n}" for kind in ("fft", "ifft", "rfft", "irfft") for n in ("", "2", "n")]
FAMILY: dict[str, Alternatives] = {
    **dict.fromkeys([*_NAMES, "gelu", "leaky_relu"], activation),
    **dict.fromkeys(["layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"], norm),
    **dict.fromkeys(["std", "var", "std_mean", "var_mean"], spread),
    **dict.fromkeys(_FOURIER, fft),
    "embedding": lookup,
    "softmax": softmax,
    "topk": largest,
    "_weight_norm": weight_norm,
}  # fmt: skip
