"""Computations of a layer from its input: norms, products, tables, functions, cells."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from twingrad import numerics
from twingrad.diagnosis.hypotheses.context import (
    LOW_PRECISIONS,
    Context,
    Hypothesis,
    rounded,
)
from twingrad.foreign import Array

EPSILONS = (1e-5, 1e-6, 1e-12, 1e-8, 1e-3, 1e-2, 0.0)
CANCELS = 16.0  # times what one rounding of E[x²] does to a variance: sums have many of them


def norms(context: Context) -> Iterator[Hypothesis]:
    """LayerNorm and RMSNorm, by epsilon, variance, gain and bias."""
    if (
        context.what != "out"
        or context.stage != "forward"
        or not context.call
        or not context.call.inputs
    ):
        return
    weight, bias = context.values.get("weight"), context.values.get("bias")
    x = context.call.inputs[0]
    if weight is None or weight.ndim != 1 or weight.shape[-1:] != x.shape[-1:]:
        return
    mean = x.mean(-1, keepdims=True)
    for epsilon, unbiased, centred in itertools.product(EPSILONS, (0, 1), (True, False)):
        middle = x - mean if centred else x
        count = x.shape[-1] - unbiased
        variance = (middle**2).sum(-1, keepdims=True) / count
        y = middle / np.sqrt(variance + epsilon)
        for learned, z in _learned(y, weight, bias):
            name = f"normalised with epsilon {epsilon:g}" + learned
            name += ", variance over C - 1" if unbiased else ""
            yield name + ("" if centred else ", not centred"), z
    y = (x - mean) / (np.sqrt(x.var(-1, keepdims=True)) + 1e-5)
    yield "normalised with epsilon outside the root", y * weight + (0 if bias is None else bias)
    if context.dtype == "float32" and context.torch.shape == x.shape:
        shift = 0.0 if bias is None else bias
        yield from _cancelling(context, x.astype(np.float64), weight, shift)


def _cancelling(
    context: Context, x: Array, weight: Array, bias: Array | float
) -> Iterator[Hypothesis]:
    """Each row off by a factor of its own, as large as E[x²] - E[x]² makes it in float32."""
    middle = x - x.mean(-1, keepdims=True)
    variance = x.var(-1, keepdims=True)
    lost = numerics.UNIT_ROUNDOFF["float32"] * (x**2).mean(-1, keepdims=True) / variance
    for epsilon, actual in itertools.product(EPSILONS, (context.torch, context.jax)):
        y = middle / np.sqrt(variance + epsilon) * weight
        unbiased = actual - bias
        factor = (unbiased * y).sum(-1, keepdims=True) / (y * y).sum(-1, keepdims=True)
        if (np.abs(factor - 1) <= CANCELS * lost).all():
            name = f"normalised with epsilon {epsilon:g} by a variance that cancels, E[x²] - E[x]²"
            yield name, factor * y + bias


def _learned(y: Array, weight: Array, bias: Array | None) -> Iterator[Hypothesis]:
    if bias is not None:
        yield "", y * weight + bias
        yield ", without its bias", y * weight
        yield ", without its gain", y + bias
    else:
        yield "", y * weight
    yield ", gain 1 + weight", y * (1 + weight) + (0 if bias is None else bias)


def batch_norms(context: Context) -> Iterator[Hypothesis]:
    """BatchNorm over all axes but the second."""
    weight, bias = context.values.get("weight"), context.values.get("bias")
    mean, variance = context.values.get("running_mean"), context.values.get("running_var")
    if (
        not context.call
        or not context.call.inputs
        or weight is None
        or mean is None
        or variance is None
    ):
        return
    x = context.call.inputs[0]
    axes = tuple(i for i in range(x.ndim) if i != 1)
    shape = tuple(-1 if i == 1 else 1 for i in range(x.ndim))
    w, b = weight.reshape(shape), None if bias is None else bias.reshape(shape)
    n = x.size // x.shape[1]
    kinds = {
        "by the batch": (x.mean(axes), x.var(axes)),
        "by the running statistics": (mean, variance),
        "by the batch, variance over n - 1": (x.mean(axes), x.var(axes) * n / max(n - 1, 1)),
    }
    for (name, (m, v)), epsilon in itertools.product(kinds.items(), EPSILONS):
        y = (x - m.reshape(shape)) / np.sqrt(v.reshape(shape) + epsilon)
        for learned, z in _learned(y, w, b):
            yield f"normalised {name} with epsilon {epsilon:g}{learned}", _as(z, context)


def _as(value: Array, context: Context) -> Array:
    """The prediction with channels where the place has them."""
    turned = np.moveaxis(value, 1, -1) if value.ndim > 2 else value
    return turned if value.shape != context.torch.shape else value


def linear(context: Context) -> Iterator[Hypothesis]:
    """A matrix product with its bias."""
    weight, bias = context.values.get("weight"), context.values.get("bias")
    if context.what != "out" or weight is None or weight.ndim != 2:
        return
    if not context.call or not context.call.inputs:
        return
    x = context.call.inputs[0]
    square = weight.shape[0] == weight.shape[1]
    straight = context.kind == "Conv1D"
    for turned in (False, True) if square else (False,):
        w = weight if straight != turned else weight.T
        if x.shape[-1] != w.shape[0]:
            continue
        product = x @ w
        name = "the product with its weight" + (" transposed" if turned else "")
        if bias is not None:
            yield f"{name} and its bias", product + bias
            yield f"{name} without its bias", product
            yield f"{name} and twice its bias", product + 2 * bias
        else:
            yield name, product
        yield from _products_of_few_bits(name, x, w, bias)


def _products_of_few_bits(
    name: str, x: Array, w: Array, bias: Array | None
) -> Iterator[Hypothesis]:
    """A product whose factors, and then its result, are rounded as a layer in that dtype does."""
    shift = 0.0 if bias is None else bias
    for precision in LOW_PRECISIONS:
        product = rounded(x, precision) @ rounded(w, precision)
        yield f"{name} of factors rounded to {precision}", product + shift
        result = rounded(product, precision)
        if bias is not None:
            result = rounded(result + rounded(bias, precision), precision)
        yield f"{name}, all of it rounded to {precision}", result


def embeddings(context: Context) -> Iterator[Hypothesis]:
    """Rows of a table, by number."""
    weight = context.values.get("weight")
    if weight is None or weight.ndim != 2 or not context.call or not context.call.integers:
        return
    ids, count = context.call.integers[0], len(weight)
    yield "the rows of its table", weight[ids % count]
    yield "the rows times sqrt(C)", weight[ids % count] * math.sqrt(weight.shape[1])
    yield "the rows after those", weight[np.minimum(ids + 1, count - 1)]
    yield "the rows before those", weight[np.maximum(ids - 1, 0)]


def integers(context: Context) -> Iterator[Hypothesis]:
    """Indices that are off by a little."""
    if not context.before or not context.before.integers:
        return
    ids = context.torch
    for first in (0, 1):
        yield (
            f"positions from {first}",
            np.broadcast_to(np.arange(first, ids.shape[-1] + first), ids.shape),
        )
    yield "the indices", ids
    for by in (1, -1, 2):
        yield f"the indices {'plus' if by > 0 else 'less'} {abs(by)}", ids + by
    yield "all 0", np.zeros_like(ids)


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "GELU by tanh": lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "GELU by erf": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "GELU as x sigmoid(1.702 x)": lambda x: x / (1 + np.exp(-1.702 * x)),
    "ReLU": lambda x: np.maximum(x, 0),
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "leaky ReLU with slope 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky ReLU with slope 0.1": lambda x: np.where(x > 0, x, 0.1 * x),
}


def activations(context: Context) -> Iterator[Hypothesis]:
    """A function of each number of one source."""
    for source, x in reversed(list(context.same_shape().items())):
        for name, function in ACTIVATIONS.items():
            yield f"{name} of {source}", function(x)
            bias = context.everything.get(f"{source}.bias")
            if bias is not None and bias.shape == x.shape[-1:]:
                yield f"{name} of {source} without its bias", function(x - bias)
    yield from reversed(list(context.same_shape().items()))


def cells(context: Context) -> Iterator[Hypothesis]:
    """One step of a GRU or an LSTM, by gates."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    if (
        not context.call
        or len(context.call.inputs) < 2
        or any(n not in context.values for n in names)
    ):
        return
    w, u, b, c = (context.values[name] for name in names)
    x, h = context.call.inputs[:2]
    from_input, from_state = x @ w.T + b, h @ u.T + c
    sigmoid = ACTIVATIONS["sigmoid"]
    if len(w) == 3 * h.shape[-1]:
        (ir, iz, i_n), (hr, hz, hn) = (
            np.split(part, 3, axis=-1) for part in (from_input, from_state)
        )
        r, z = sigmoid(ir + hr), sigmoid(iz + hz)
        new = np.tanh(i_n + r * hn)
        yield "a GRU step", (1 - z) * new + z * h
        yield "a GRU step with its update gate turned round", z * new + (1 - z) * h
        without = np.tanh(i_n + hn)
        yield "a GRU step without its reset gate", (1 - z) * without + z * h
        early = np.tanh(i_n + (r * h) @ np.split(u, 3)[2].T + np.split(c, 3)[2])
        yield "a GRU step that resets the state before its product", (1 - z) * early + z * h
        swapped = np.tanh(i_n + z * hn)
        yield "a GRU step with its gates swapped", (1 - r) * swapped + r * h
    if len(w) == 4 * h.shape[-1] and len(context.call.inputs) > 2:
        cell = context.call.inputs[2]
        gates = np.split(from_input + from_state, 4, axis=-1)
        for order in itertools.permutations("ifgo"):
            part = dict(zip(order, gates, strict=True))
            after = sigmoid(part["f"]) * cell + sigmoid(part["i"]) * np.tanh(part["g"])
            yield (
                f"an LSTM step with gates in the order {''.join(order)}",
                sigmoid(part["o"]) * np.tanh(after),
            )


def applied(context: Context) -> Iterator[Hypothesis]:
    """A part of the module applied to another tensor than its own."""
    for name, module in context.modules.items():
        for source, x in {**context.sources, **context.elsewhere}.items():
            if x.shape == context.torch.shape:
                yield f"{name} of {source}", module(x)


def heads(context: Context) -> Iterator[Hypothesis]:
    """Logits: a source times a table's transpose, as a tied head has it."""
    width = context.torch.shape[-1:]
    tables = {n: w for n, w in context.everything.items() if w.ndim == 2 and w.shape[:1] == width}
    for source, x in reversed(list(context.sources.items())):
        for name, table in tables.items():
            if x.shape[:-1] == context.torch.shape[:-1] and x.shape[-1] == table.shape[1]:
                yield f"{source} times {name}", x @ table.T


def wiring(context: Context) -> Iterator[Hypothesis]:
    """Another tensor of the pass where this one should be."""
    for name, x in context.sources.items():
        yield name, x
    for name, x in context.elsewhere.items():
        yield name, x


def sums(context: Context) -> Iterator[Hypothesis]:
    """Sums of sources with small factors, found by least squares."""
    shaped = {
        n: np.broadcast_to(x, context.torch.shape)
        for n, x in context.sources.items()
        if x.ndim <= context.torch.ndim and _broadcasts(x.shape, context.torch.shape)
    }
    if not 1 <= len(shaped) <= 12:
        return
    columns = np.stack([x.ravel() for x in shaped.values()], axis=1).astype(np.float64)
    for target in (context.torch, context.jax):
        if target.shape != context.torch.shape or not np.isfinite(target).all():
            continue
        factors, *_ = np.linalg.lstsq(columns, target.ravel().astype(np.float64), rcond=1e-12)
        factors = np.where(np.abs(factors) < 1e-6, 0.0, factors)
        terms = [_term(n, f) for n, f in zip(shaped, factors, strict=True) if f]
        if terms:
            text = " ".join(terms).removeprefix("+ ")
            yield text, (columns @ factors).reshape(target.shape)


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(small, large) == large
    except ValueError:
        return False


def _term(name: str, factor: float) -> str:
    sign = "-" if factor < 0 else "+"
    size = abs(factor)
    if abs(size - 1) < 1e-6:
        return f"{sign} {name}"
    square = round(size**2)
    root = abs(size - round(size)) > 1e-6 and square > 1 and abs(size**2 / square - 1) < 1e-9
    return f"{sign} {f'sqrt({square})' if root else f'{size:.6g}'} × {name}"
