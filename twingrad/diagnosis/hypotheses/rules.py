"""Rules of optimizers, step by step: Adam and AdamW, SGD, RMSprop, Adagrad and Lion."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from twingrad import numerics
from twingrad.diagnosis.hypotheses.context import rounded
from twingrad.foreign import Array, Optimizer, Untyped

Params = dict[str, Array]
Kind = Literal["adamw", "sgd", "rmsprop", "adagrad", "lion"]
Decays = Literal["matrices", "everything", "nothing", "no embeddings", "no token embeddings"]
Most = Literal["none", "plain", "corrected"]  # the largest second moment (AMSGrad)
Clip = Literal[
    "norm", "none", "value", "tensor", "norm and 1e-6", "tensor and 1e-6", "matrices", "update"
]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An optimizer with every choice open; ``rates`` holds one learning rate for each step.

    ``decayed`` are the parameters that decay, by name, where no rule says it. ``squares`` is where
    the second moments begin, ``most`` whether the largest so far counts, as it is or with its bias
    corrected. ``title`` is what sentences call it.
    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """

    title: str = "the rule"
    kind: Kind = "adamw"
    rates: tuple[float, ...]
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    in_root: bool = False
    corrected: bool = True
    decay: float = 0.0
    decays: Decays = "matrices"
    coupled: bool = False
    clip: Clip = "norm"
    max_norm: float = math.inf
    momentum: float = 0.0
    nesterov: bool = False
    centred: bool = False
    squares: float = 0.0
    most: Most = "none"
    decayed: frozenset[str] | None = None
    moment_precision: str | None = None  # a lower one in which the first moment is kept

    def run(self, start: Mapping[str, Array], gradients: Sequence[Params]) -> list[Params]:
        """The parameters after each step, in float64."""
        p = {name: value.astype(np.float64) for name, value in start.items()}
        m, v = self.moments(p)
        after = []
        for step, (rate, raw) in enumerate(zip(self.rates, gradients, strict=True)):
            clipped = self.clipped({n: g.astype(np.float64) for n, g in raw.items()})
            self.move(p, m, v, clipped, rate, step)
            after.append(dict(p))
        return after

    def moments(self, p: Params) -> tuple[Params, Params]:
        """The first and second moments before the first step."""
        first = {name: np.zeros(value.shape) for name, value in p.items()}
        return first, {name: np.full(value.shape, self.squares) for name, value in p.items()}

    def move(
        self, p: Params, m: Params, v: Params, gradients: Params, rate: float, step: int
    ) -> None:
        """New parameters and moments in place of the old, after ``step`` steps before this one."""
        moved = {}
        for name, g in gradients.items():
            decay = self.decay if self.decays_of(name, p[name]) else 0.0
            if self.coupled or self.kind == "sgd":
                g, decay = g + decay * p[name], 0.0
            step_of = self._step(m, v, name, g, step) + decay * p[name]
            moved[name] = np.asarray(-rate * step_of)
        share = 1.0
        if self.clip == "update":
            share = _share(
                math.hypot(*(numerics.size(d).l2 for d in moved.values())), self.max_norm
            )
        p |= {name: p[name] + share * d for name, d in moved.items()}

    def _step(self, m: Params, v: Params, name: str, g: Array, step: int) -> Array:
        if self.kind == "sgd":
            m[name] = self.momentum * m[name] + g
            return g + self.momentum * m[name] if self.nesterov else m[name]
        if self.kind == "lion":
            sign = np.sign(self.beta1 * m[name] + (1 - self.beta1) * g)
            m[name] = self.beta2 * m[name] + (1 - self.beta2) * g
            return np.asarray(sign)
        if self.kind in ("rmsprop", "adagrad"):
            return self._by_squares(m, v, name, g)
        low = self.moment_precision
        before = m[name] if low is None else rounded(m[name], low)
        m[name] = self.beta1 * before + (1 - self.beta1) * g
        v[name] = self.beta2 * v[name] + (1 - self.beta2) * g * g
        first = 1 - self.beta1 ** (step + 1) if self.corrected else 1.0
        second = 1 - self.beta2 ** (step + 1) if self.corrected else 1.0
        squares = v[name] / second
        if self.most != "none":
            own = v[name] if self.most == "plain" else squares
            largest = f"{name}, largest"
            v[largest] = np.maximum(v.get(largest, own), own)
            squares = v[largest] / (second if self.most == "plain" else 1.0)
        return m[name] / first / self._root(squares)

    def _by_squares(self, m: Params, v: Params, name: str, g: Array) -> Array:
        """RMSprop, whose squares fade by ``beta2``, and Adagrad, which sums them up."""
        if self.kind == "adagrad":
            v[name] = v[name] + g * g
            return g / self._root(v[name])
        v[name] = self.beta2 * v[name] + (1 - self.beta2) * g * g
        spread = v[name]
        if self.centred:
            mean = f"{name}, mean"
            m[mean] = self.beta2 * m.get(mean, np.zeros(g.shape)) + (1 - self.beta2) * g
            spread = spread - m[mean] ** 2
        m[name] = self.momentum * m[name] + g / self._root(spread)
        return m[name]

    def _root(self, squares: Array) -> Array:
        if self.in_root:
            return np.asarray(np.sqrt(squares + self.epsilon))
        return np.asarray(np.sqrt(squares) + self.epsilon)

    def decays_of(self, name: str, p: Array) -> bool:
        """Whether a parameter decays."""
        if self.decayed is not None:
            return name.partition("[")[0] in self.decayed
        matrix = p.ndim >= 2
        return {
            "matrices": matrix,
            "everything": True,
            "nothing": False,
            "no embeddings": matrix and not name.startswith(("wte", "wpe")),
            "no token embeddings": matrix and not name.startswith("wte"),
        }[self.decays]

    def clipped(self, gradients: Params) -> Params:
        """Gradients as they are after clipping."""
        if self.clip in ("none", "update") or math.isinf(self.max_norm):
            return gradients
        if self.clip == "value":
            top = self.max_norm
            return {name: np.clip(g, -top, top) for name, g in gradients.items()}
        if self.clip in ("tensor", "tensor and 1e-6"):
            more = 1e-6 if self.clip == "tensor and 1e-6" else 0.0
            norms = {name: numerics.size(g).l2 + more for name, g in gradients.items()}
            return {n: g * _share(norms[n], self.max_norm) for n, g in gradients.items()}
        counted = [g for g in gradients.values() if self.clip != "matrices" or g.ndim >= 2]
        norm = math.hypot(*(numerics.size(g).l2 for g in counted))
        if self.clip == "norm and 1e-6":
            norm += 1e-6
        return {name: g * _share(norm, self.max_norm) for name, g in gradients.items()}


NamedRule = tuple[str, Rule]
_CLIPPING: dict[Clip, str] = {
    "none": "without clipping",
    "value": "with each number clipped",
    "tensor": "with each tensor clipped by itself",
    "tensor and 1e-6": "with each tensor clipped by itself, by its norm + 1e-6",
    "norm and 1e-6": "with 1e-6 added to the norm",
    "matrices": "with a norm over matrices alone",
    "update": "with the update clipped, not the gradients",
}
_MOST: dict[Most, str] = {
    "none": "without the largest second moment so far (AMSGrad)",
    "plain": "with the largest second moment so far (AMSGrad)",
    "corrected": "with the largest second moment taken after its bias is corrected (AMSGrad)",
}
_DECAYS: tuple[Decays, ...] = ("everything", "nothing", "no embeddings", "no token embeddings")
_DECAYED: tuple[Decays, ...] = ("matrices", "everything")
IN_GRADIENT = " with decay in the gradient (L2)"
_BOUNDS = (1.0, 0.5, 0.1, 5.0, 10.0, 0.01, 0.25, 2.0, 0.05, 0.001)


def _share(norm: float, most: float) -> float:
    return min(1.0, most / norm) if norm else 1.0


def variants(rule: Rule, further: Sequence[NamedRule] = ()) -> Iterator[NamedRule]:
    """The rule and known mistakes, each with its name; ``further`` ones before other rates."""
    title = rule.title
    yield title, rule
    for clip, mistake in _CLIPPING.items():
        yield f"{title} {mistake}", replace(rule, clip=clip)
    if rule.clip != "norm":
        yield f"{title} with the norm alone, 1e-6 not added", replace(rule, clip="norm")
    yield from further
    for factor in (10.0, 0.1, 2.0, 0.5):
        scaled = tuple(rate * factor for rate in rule.rates)
        yield f"{title} with {factor:g} times the learning rate", replace(rule, rates=scaled)
    yield from {
        "adamw": _adam_variants, "sgd": _sgd_variants, "lion": _decay_variants,
        "rmsprop": _square_variants, "adagrad": _square_variants,
    }[rule.kind](rule)  # fmt: skip


def _sgd_variants(rule: Rule) -> Iterator[NamedRule]:
    for decay in (0.0, 1e-4, 1e-2):
        if decay != rule.decay:
            yield f"{rule.title} with weight decay {decay:g}", replace(rule, decay=decay)
    for momentum in (0.0, 0.9, 0.99):
        if momentum != rule.momentum:
            yield f"{rule.title} with momentum {momentum:g}", replace(rule, momentum=momentum)
    words = "without" if rule.nesterov else "with"
    yield f"{rule.title} {words} Nesterov's step", replace(rule, nesterov=not rule.nesterov)


def _epsilons(rule: Rule) -> Iterator[NamedRule]:
    for epsilon in (1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 0.0):
        if epsilon != rule.epsilon:
            yield f"{rule.title} with epsilon {epsilon:g}", replace(rule, epsilon=epsilon)
    where = "outside" if rule.in_root else "inside"
    yield f"{rule.title} with epsilon {where} the root", replace(rule, in_root=not rule.in_root)


def _adam_variants(rule: Rule) -> Iterator[NamedRule]:
    title = rule.title
    yield from _epsilons(rule)
    yield f"{title} without bias correction", replace(rule, corrected=False)
    for most, words in _MOST.items():
        if most != rule.most:
            yield f"{title} {words}", replace(rule, most=most)
    swapped = replace(rule, beta1=rule.beta2, beta2=rule.beta1)
    yield f"{title} with its betas swapped", swapped
    for beta2 in (0.95, 0.98, 0.99, 0.999):
        if beta2 != rule.beta2:
            yield f"{title} with beta2 {beta2:g}", replace(rule, beta2=beta2)
    yield from _decay_variants(rule)


def _decay_variants(rule: Rule) -> Iterator[NamedRule]:
    title = rule.title
    for decays in _DECAYS:
        if rule.decayed is None:
            yield f"{title} with decay of {decays}", replace(rule, decays=decays)
    for decay, decays in itertools.product((1e-4, 1e-2, 0.1), _DECAYED):
        if (decay, decays) != (rule.decay, rule.decays) or rule.decayed is not None:
            name = f"{title} with weight decay {decay:g} of {decays}"
            yield name, replace(rule, decay=decay, decays=decays, decayed=None)
    if rule.coupled:
        name = f"{title.removesuffix(IN_GRADIENT)} with decoupled decay (AdamW)"
        yield name, replace(rule, coupled=False)
    else:
        yield f"{title} with decay in the gradient (L2)", replace(rule, coupled=True)


def _square_variants(rule: Rule) -> Iterator[NamedRule]:
    """RMSprop and Adagrad: where squares begin, and where epsilon stands."""
    title = rule.title
    yield from _epsilons(rule)
    starts = [value for value in (0.0, 0.1, 1.0) if value != rule.squares]
    for squares in starts:
        begun = replace(rule, squares=squares)
        words = f"{title} whose squares begin (accumulate) from {squares:g}"
        yield words, begun
        for epsilon in (rule.epsilon, 1e-7, 1e-10):
            inside = replace(begun, in_root=True, epsilon=epsilon)
            yield f"{words}, and epsilon {epsilon:g} inside the root", inside
    for beta2 in (0.9, 0.95, 0.99, 0.999) if rule.kind == "rmsprop" else ():
        if beta2 != rule.beta2:
            yield f"{title} with squares that fade by {beta2:g}", replace(rule, beta2=beta2)
    for momentum in (0.0, 0.9):
        if momentum != rule.momentum and rule.kind == "rmsprop":
            yield f"{title} with momentum {momentum:g}", replace(rule, momentum=momentum)
    words = "not centred" if rule.centred else "centred"
    yield f"{title}, {words}", replace(rule, centred=not rule.centred)


def clipped(rule: Rule) -> Iterator[NamedRule]:
    """The rule behind each kind of clipping, at bounds that people write."""
    kinds: tuple[Clip, ...] = ("norm and 1e-6", "norm", "value", "tensor")
    for most, clip in itertools.product(_BOUNDS, kinds):
        words = {"norm and 1e-6": "norm + 1e-6 of all gradients", "norm": "norm of all gradients",
                 "value": "value", "tensor": "norm of each tensor"}[clip]  # fmt: skip
        title = f"{rule.title} clipped at {most:g} by the {words}"
        yield title, replace(rule, clip=clip, max_norm=most, title=title)


def read(optimizer: Optimizer, rates: Sequence[float], names: Mapping[int, str]) -> Rule | None:
    """The rule of one of PyTorch's own optimizers, by its settings; ``names`` are by tensors' id.

    Nothing for an optimizer of another kind, and for groups that differ in more than decay.
    """
    groups = optimizer.param_groups
    first = groups[0]
    decays = {group.get("weight_decay", 0.0) for group in groups}
    if len({group["lr"] for group in groups}) > 1 or len(decays - {0.0}) > 1:
        return None
    kinds = [cls.__name__ for cls in type(optimizer).__mro__]
    kind = next((name for name in kinds if name in _READERS), None)
    if kind is None:
        return None
    rule = replace(
        Rule(rates=tuple(rates), decay=max(decays), decays="everything"), **_READERS[kind](first)
    )
    title = f"{kind}'s rule"
    if rule.decay and rule.coupled:
        title += IN_GRADIENT
    if len(decays) < 2:
        return replace(rule, title=title)
    decayed = {names[id(p)] for g in groups if g.get("weight_decay") for p in g["params"]}
    return replace(rule, title=title, decayed=frozenset(decayed))


def _read_adam(group: Mapping[str, Untyped]) -> dict[str, Untyped]:
    beta1, beta2 = group["betas"]
    coupled = not group.get("decoupled_weight_decay", True)
    most = "plain" if group.get("amsgrad", False) else "none"
    return {
        "beta1": beta1, "beta2": beta2, "epsilon": group["eps"], "coupled": coupled, "most": most,
    }  # fmt: skip


def _read_lion(group: Mapping[str, Untyped]) -> dict[str, Untyped]:
    beta1, beta2 = group.get("betas", (0.9, 0.99))
    return {"kind": "lion", "beta1": beta1, "beta2": beta2}


# Settings of a group of parameters, as fields of a rule; subclasses are found by their base.
_READERS: dict[str, Callable[[Mapping[str, Untyped]], dict[str, Untyped]]] = {
    "AdamW": lambda g: {**_read_adam(g), "coupled": False},
    "Adam": lambda g: {**_read_adam(g), "coupled": not g.get("decoupled_weight_decay", False)},
    "SGD": lambda g: {"kind": "sgd", "momentum": g["momentum"], "nesterov": g["nesterov"]},
    "RMSprop": lambda g: {
        "kind": "rmsprop",
        "beta2": g["alpha"],
        "epsilon": g["eps"],
        "momentum": g["momentum"],
        "centred": g["centered"],
        "coupled": True,
    },
    "Adagrad": lambda g: {
        "kind": "adagrad",
        "epsilon": g["eps"],
        "squares": g.get("initial_accumulator_value", 0.0),
        "coupled": True,
    },
    "Lion": _read_lion,
}
