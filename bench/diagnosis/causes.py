"""Known causes, one by one: which way of computing a place gives PyTorch's numbers, which JAX's.

A hypothesis is a name and the values it predicts, worked out in NumPy from what the module was
given. Where one predicts one side's values and another the other's, the difference has a cause.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bench.diagnosis.calls import Call
from shared import numerics

# How closely a prediction must fit, relative to the values (L2).
FIT = {"float64": 1e-7, "float32": 1e-4}
Guess = tuple[str, np.ndarray]

EPSILONS = (1e-5, 1e-6, 1e-12, 1e-8, 1e-3, 1e-2, 0.0)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a module had at hand, and what either side made of it, in PyTorch's layout."""

    stage: str
    what: str
    torch: np.ndarray
    jax: np.ndarray
    dtype: str = "float64"
    kind: str = ""
    call: Call | None = None
    before: Call | None = None
    sources: Mapping[str, np.ndarray] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    everything: Mapping[str, np.ndarray] = field(default_factory=dict)
    elsewhere: Mapping[str, np.ndarray] = field(default_factory=dict)
    batch: tuple[np.ndarray, ...] = ()

    def same_shape(self) -> dict[str, np.ndarray]:
        """Sources that could be added to the values."""
        return {n: x for n, x in self.sources.items() if x.shape == self.torch.shape}


def explain(scene: Scene) -> str | None:
    """The cause in one phrase, or nothing where no hypothesis fits both sides."""
    for family in FAMILIES if scene.stage == "forward" else (_wiring,):
        ours: str | None = None
        theirs: str | None = None
        for name, value in _quietly(family(scene)):
            ours = ours or (name if _fits(value, scene.torch, scene.dtype) else None)
            theirs = theirs or (name if _fits(value, scene.jax, scene.dtype) else None)
            if ours and theirs:
                break
        if ours and theirs and ours != theirs:
            return f"PyTorch's is {ours}, JAX's {theirs}"
    return _plain(scene)


def _quietly(guesses: Iterator[Guess]) -> Iterator[Guess]:
    with np.errstate(all="ignore"):
        yield from guesses


def _fits(value: np.ndarray, found: np.ndarray, dtype: str) -> bool:
    if value.shape != found.shape:
        return False
    size = numerics.size(found).l2
    return numerics.distance(value, found).l2 <= FIT[dtype] * size


def _norms(scene: Scene) -> Iterator[Guess]:
    """LayerNorm and RMSNorm, by epsilon, variance and what is learned."""
    if scene.what != "out" or scene.stage != "forward" or not scene.call or not scene.call.inputs:
        return
    weight, bias = scene.values.get("weight"), scene.values.get("bias")
    x = scene.call.inputs[0]
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


def _learned(y: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> Iterator[Guess]:
    if bias is not None:
        yield "", y * weight + bias
        yield ", without its bias", y * weight
        yield ", without its gain", y + bias
    else:
        yield "", y * weight
    yield ", gain one more", y * (1 + weight) + (0 if bias is None else bias)


def _batch_norms(scene: Scene) -> Iterator[Guess]:
    """BatchNorm over all axes but the second."""
    weight, bias = scene.values.get("weight"), scene.values.get("bias")
    mean, variance = scene.values.get("running_mean"), scene.values.get("running_var")
    if (
        not scene.call
        or not scene.call.inputs
        or weight is None
        or mean is None
        or variance is None
    ):
        return
    x = scene.call.inputs[0]
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
            yield f"normalised {name} with epsilon {epsilon:g}{learned}", _as(z, scene)


def _as(value: np.ndarray, scene: Scene) -> np.ndarray:
    """The prediction with channels where the place has them."""
    turned = np.moveaxis(value, 1, -1) if value.ndim > 2 else value
    return turned if value.shape != scene.torch.shape else value


def _linear(scene: Scene) -> Iterator[Guess]:
    """A matrix product with its bias."""
    weight, bias = scene.values.get("weight"), scene.values.get("bias")
    if scene.what != "out" or weight is None or weight.ndim != 2:
        return
    if not scene.call or not scene.call.inputs:
        return
    x = scene.call.inputs[0]
    square = weight.shape[0] == weight.shape[1]
    straight = scene.kind == "Conv1D"
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


def _embeddings(scene: Scene) -> Iterator[Guess]:
    """Rows of a table, by number."""
    weight = scene.values.get("weight")
    if weight is None or weight.ndim != 2 or not scene.call or not scene.call.integers:
        return
    ids, count = scene.call.integers[0], len(weight)
    yield "the rows of its table", weight[ids % count]
    yield "the rows times sqrt(C)", weight[ids % count] * math.sqrt(weight.shape[1])
    yield "the rows after those", weight[np.minimum(ids + 1, count - 1)]
    yield "the rows before those", weight[np.maximum(ids - 1, 0)]


def _integers(scene: Scene) -> Iterator[Guess]:
    """Indices that are off by a little."""
    if not scene.before or not scene.before.integers:
        return
    ids = scene.torch
    yield "the indices", ids
    for by in (1, -1, 2):
        yield f"the indices {'plus' if by > 0 else 'less'} {abs(by)}", ids + by
    yield "all 0", np.zeros_like(ids)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
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


def _activations(scene: Scene) -> Iterator[Guess]:
    """A function of each number of one source."""
    for source, x in reversed(list(scene.same_shape().items())):
        for name, function in ACTIVATIONS.items():
            yield f"{name} of {source}", function(x)
            bias = scene.everything.get(f"{source}.bias")
            if bias is not None and bias.shape == x.shape[-1:]:
                yield f"{name} of {source} without its bias", function(x - bias)
    yield from reversed(list(scene.same_shape().items()))


def _attention(scene: Scene) -> Iterator[Guess]:
    """Causal self-attention over heads, from one tensor of queries, keys and values."""
    if scene.torch.ndim != 3:
        return
    C = scene.torch.shape[-1]
    wide = [(n, x) for n, x in scene.sources.items() if x.ndim == 3 and x.shape[-1] == 3 * C]
    for _, qkv in wide:
        usual = [heads for heads in _divisors(C) if _fits(
            _attend(qkv, heads), scene.torch, scene.dtype) or _fits(
            _attend(qkv, heads), scene.jax, scene.dtype)]  # fmt: skip
        for heads in usual[:1]:
            D = C // heads
            yield "attention as GPT-2 has it", _attend(qkv, heads)
            for name, change in _attentions(heads, D, C):
                yield f"attention {name}", _attend(qkv, **({"heads": heads} | change))


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, min(n, 64) + 1) if n % k == 0]


def _attentions(heads: int, D: int, C: int) -> Iterator[tuple[str, dict]]:
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
    for other in _divisors(C):
        if other != heads:
            yield f"with {other} heads, not {heads}", {"heads": other}


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
) -> np.ndarray:
    """Attention written out, with every choice open."""
    B, T, width = qkv.shape
    C = width // 3
    D = C // heads
    if per_head:
        parts = dict(zip(order, np.split(qkv.reshape(B, T, heads, 3 * D), 3, axis=-1), strict=True))
    else:
        pieces = [p.reshape(B, T, D, heads).swapaxes(2, 3) if cut else p.reshape(B, T, heads, D)
                  for p in np.split(qkv, 3, axis=-1)]  # fmt: skip
        parts = dict(zip(order, pieces, strict=True))
    q, k, v = (parts[name].swapaxes(1, 2) for name in "qkv")
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(D) if scale is None else scale)
    ones = np.ones((T, T), bool)
    seen = {
        "causal": np.tril(ones),
        "none": ones,
        "ahead": np.tril(ones, 1),
        "strict": np.tril(ones, -1) | np.eye(T, dtype=bool) * (np.arange(T) == 0),
        "future": np.triu(ones),
    }[mask]
    if axis == 0:
        weights = np.where(seen, scores, 0)
    else:
        scores = np.where(seen, scores, -np.inf)
        top = scores.max(axis, keepdims=True)
        weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
        weights = weights / weights.sum(axis, keepdims=True)
    y = weights @ v  # (B, H, T, D)
    if merge == "dh":
        return y.transpose(0, 2, 3, 1).reshape(B, T, C)
    if merge == "time":
        return y.reshape(B, T, C)
    return y.swapaxes(1, 2).reshape(B, T, C)


def _cells(scene: Scene) -> Iterator[Guess]:
    """One step of a GRU or an LSTM, by gates."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    if not scene.call or len(scene.call.inputs) < 2 or any(n not in scene.values for n in names):
        return
    w, u, b, c = (scene.values[name] for name in names)
    x, h = scene.call.inputs[:2]
    given, kept = x @ w.T + b, h @ u.T + c
    sigmoid = ACTIVATIONS["sigmoid"]
    if len(w) == 3 * h.shape[-1]:
        (ir, iz, i_n), (hr, hz, hn) = (np.split(part, 3, axis=-1) for part in (given, kept))
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
    if len(w) == 4 * h.shape[-1] and len(scene.call.inputs) > 2:
        cell = scene.call.inputs[2]
        gates = np.split(given + kept, 4, axis=-1)
        for order in itertools.permutations("ifgo"):
            part = dict(zip(order, gates, strict=True))
            after = sigmoid(part["f"]) * cell + sigmoid(part["i"]) * np.tanh(part["g"])
            yield (
                f"an LSTM step with gates in the order {''.join(order)}",
                sigmoid(part["o"]) * np.tanh(after),
            )


def _heads(scene: Scene) -> Iterator[Guess]:
    """Logits: a source times a table's transpose, as a tied head has it."""
    width = scene.torch.shape[-1:]
    tables = {n: w for n, w in scene.everything.items() if w.ndim == 2 and w.shape[:1] == width}
    for source, x in reversed(list(scene.sources.items())):
        for name, table in tables.items():
            if x.shape[:-1] == scene.torch.shape[:-1] and x.shape[-1] == table.shape[1]:
                yield f"{source} times {name}", x @ table.T


def _wiring(scene: Scene) -> Iterator[Guess]:
    """Another tensor of the pass where this one should be."""
    for name, x in scene.sources.items():
        yield name, x
    for name, x in scene.elsewhere.items():
        yield name, x


def _sums(scene: Scene) -> Iterator[Guess]:
    """Sums of sources with small factors, found by least squares."""
    shaped = {
        n: np.broadcast_to(x, scene.torch.shape)
        for n, x in scene.sources.items()
        if x.ndim <= scene.torch.ndim and _broadcasts(x.shape, scene.torch.shape)
    }
    if not 1 <= len(shaped) <= 12:
        return
    columns = np.stack([x.ravel() for x in shaped.values()], axis=1).astype(np.float64)
    for target in (scene.torch, scene.jax):
        if target.shape != scene.torch.shape or not np.isfinite(target).all():
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
    return f"{sign} {name}" if abs(size - 1) < 1e-6 else f"{sign} {size:.6g} × {name}"


def _losses(scene: Scene) -> Iterator[Guess]:
    """Cross-entropy of the model's output, by what it is divided by and who counts."""
    if scene.what != "loss" or not scene.call or not scene.call.outputs or not scene.batch:
        return
    logits, targets = scene.call.outputs[0], scene.batch[-1]
    if logits.shape[:-1] != targets.shape or targets.dtype.kind not in "iu":
        return
    top = logits.max(-1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    B, T = targets.shape if targets.ndim == 2 else (1, targets.size)
    ways = {"": targets}
    if targets.ndim == 2:
        ways["of the inputs as targets"] = scene.batch[0]
    for label, ids in ways.items():
        counts = targets >= 0
        picked = -np.take_along_axis(logs, np.maximum(ids, 0)[..., None], -1)[..., 0]
        last = -np.take_along_axis(logs, (ids % logs.shape[-1])[..., None], -1)[..., 0]
        own, every = (picked * counts).sum(), picked.sum()
        without_last = (picked * counts)[..., :-1]
        n = max(int(counts.sum()), 1)
        sums = {
            "the mean over targets that count": own / n,
            "a sum": own,
            "the sum divided by B": own / B,
            "the sum divided by B (T - 1)": own / max(B * (T - 1), 1),
            "the sum divided by all positions": own / counts.size,
            "a mean in which ignored targets count as token 0": every / counts.size,
            "a mean over targets that count, with ignored ones added as token 0": every / n,
            "a mean over targets that count, with ignored ones added as the last token": last.sum()
            / n,
            "the sum without the last position": without_last.sum() / n,
            "the mean without the last position": without_last.sum()
            / max(int(counts[..., :-1].sum()), 1),
        }
        if targets.ndim == 2:
            moved = np.roll(counts, 1, -1)
            sums["a mean in which the mask of ignored targets stands one place on"] = (
                picked * moved
            ).sum() / n
        for name, value in sums.items():
            yield f"{name} {label}".strip(), np.asarray(value)


FAMILIES: tuple[Callable[[Scene], Iterator[Guess]], ...] = (
    _integers,
    _losses,
    _norms,
    _batch_norms,
    _linear,
    _embeddings,
    _cells,
    _attention,
    _activations,
    _heads,
    _sums,
    _wiring,
)


def _plain(scene: Scene) -> str | None:
    """What can be said without knowing the module: nothing there, a factor, a lower precision."""
    ours, theirs = scene.torch.astype(np.float64), scene.jax.astype(np.float64)
    if ours.shape != theirs.shape:
        return f"PyTorch's shape is {scene.torch.shape}, JAX's {scene.jax.shape}"
    for name, x in (("PyTorch", ours), ("JAX", theirs)):
        if not np.isfinite(x).all():
            return f"{name} has NaN or infinity there"
    flow = scene.stage == "backward"
    if not theirs.any() or not ours.any():
        side = "JAX" if not theirs.any() else "PyTorch"
        return f"no gradient flows in {side}: it is stopped" if flow else f"{side} has zeros there"
    ratio = float((ours * theirs).sum() / (ours * ours).sum())
    left = numerics.distance(theirs, np.asarray(ratio * ours)).l2
    # A factor explains only what goes away with it.
    if left <= min(
        FIT[scene.dtype] * numerics.size(theirs).l2, 0.01 * numerics.distance(theirs, ours).l2
    ):
        named = {-1.0: "the sign is turned"}
        return named.get(round(ratio, 9), f"JAX's is {ratio:.6g} times PyTorch's")
    rows = _rows(ours, theirs, flow)
    if rows:
        return rows
    error = numerics.distance(ours, theirs).l2 / numerics.size(ours).l2
    for name, u in (("bfloat16", 2.0**-9), ("float16 or TF32", 2.0**-12), ("float32", 2.0**-25)):
        if name == "float32" and scene.dtype == "float32":
            continue
        if u / 4 <= error <= 8 * u:
            return f"apart by what rounding to {name} does"
    return None


def _rows(ours: np.ndarray, theirs: np.ndarray, flow: bool) -> str | None:
    """Rows that one side leaves out, where all others agree."""
    if ours.ndim < 2:
        return None
    size = np.abs(ours).max()
    apart = np.abs(ours - theirs).reshape(len(ours), -1).max(1) > 1e-9 * size
    if not 0 < apart.sum() <= max(1, len(ours) // 4):
        return None
    which = ", ".join(map(str, np.flatnonzero(apart)[:4]))
    for side, x in (("JAX", theirs), ("PyTorch", ours)):
        if not x[apart].any():
            kind = "gets no gradient" if flow else "is zero"
            return f"row {which} {kind} in {side}, as padding would"
    return f"only row {which} differs"
