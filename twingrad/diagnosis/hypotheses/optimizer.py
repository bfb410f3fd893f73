"""Two optimizers on the same gradients, and the rule of AdamW or SGD that each of them follows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twingrad import numerics
from twingrad.calls import Pass
from twingrad.diagnosis.finding import Finding, statistics
from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, rounded
from twingrad.live import Both

Params = dict[str, np.ndarray]

# What the gradients are multiplied by, step by step: some are clipped, and the sign changes.
FACTORS = (0.5, -3.0, 200.0)
# How near a rule must come to what an optimizer leaves, relative to how far parameters moved.
FIT = 1e-8
COARSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Rule:
    """AdamW or SGD with every choice open; ``rates`` holds one learning rate for each step.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """

    kind: str = "adamw"
    rates: tuple[float, ...]
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    in_root: bool = False
    corrected: bool = True
    decay: float = 0.0
    decays: str = "matrices"
    coupled: bool = False
    clip: str = "norm"
    max_norm: float = math.inf
    momentum: float = 0.0
    kept: str | None = None  # a lower precision in which the first moment is kept

    def run(self, start: Mapping[str, np.ndarray], gradients: Sequence[Params]) -> list[Params]:
        """The parameters after each step, in float64."""
        p = {name: value.astype(np.float64) for name, value in start.items()}
        m, v = ({name: np.zeros(value.shape) for name, value in p.items()} for _ in range(2))
        after = []
        for step, (rate, raw) in enumerate(zip(self.rates, gradients, strict=True)):
            clipped = self.clipped({n: g.astype(np.float64) for n, g in raw.items()})
            self.move(p, m, v, clipped, rate, step)
            after.append(dict(p))
        return after

    def move(
        self, p: Params, m: Params, v: Params, gradients: Params, rate: float, step: int
    ) -> None:
        """New parameters and moments in place of the old, after ``step`` steps before this one."""
        moved = {}
        for name, g in gradients.items():
            decay = self.decay if self._decayed(name, p[name]) else 0.0
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

    def _step(self, m: Params, v: Params, name: str, g: np.ndarray, step: int) -> np.ndarray:
        if self.kind == "sgd":
            m[name] = self.momentum * m[name] + g
            return m[name]
        before = m[name] if self.kept is None else rounded(m[name], self.kept)
        m[name] = self.beta1 * before + (1 - self.beta1) * g
        v[name] = self.beta2 * v[name] + (1 - self.beta2) * g * g
        first = 1 - self.beta1 ** (step + 1) if self.corrected else 1.0
        second = 1 - self.beta2 ** (step + 1) if self.corrected else 1.0
        if self.in_root:
            return m[name] / first / np.sqrt(v[name] / second + self.epsilon)
        return m[name] / first / (np.sqrt(v[name] / second) + self.epsilon)

    def _decayed(self, name: str, p: np.ndarray) -> bool:
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
        if self.clip == "tensor":
            return {n: g * _share(numerics.size(g).l2, self.max_norm) for n, g in gradients.items()}
        counted = [g for g in gradients.values() if self.clip != "matrices" or g.ndim >= 2]
        norm = math.hypot(*(numerics.size(g).l2 for g in counted))
        if self.clip == "norm and 1e-6":
            norm += 1e-6
        return {name: g * _share(norm, self.max_norm) for name, g in gradients.items()}


NamedRule = tuple[str, Rule]


def _share(norm: float, most: float) -> float:
    return min(1.0, most / norm) if norm else 1.0


def variants(rule: Rule, further: Sequence[NamedRule] = ()) -> Iterator[NamedRule]:
    """The rule and known mistakes, each with its name; ``further`` ones before other rates."""
    yield "the rule", rule
    for most in ("none", "value", "tensor", "norm and 1e-6", "matrices", "update"):
        names = {
            "none": "the rule without clipping",
            "value": "the rule with each number clipped",
            "tensor": "the rule with each tensor clipped by itself",
            "norm and 1e-6": "the rule with 1e-6 added to the norm",
            "matrices": "the rule with a norm over matrices alone",
            "update": "the rule with the update clipped, not the gradients",
        }
        yield names[most], replace(rule, clip=most)
    yield from further
    for factor in (10.0, 0.1, 2.0, 0.5):
        scaled = tuple(rate * factor for rate in rule.rates)
        yield f"the rule with {factor:g} times the learning rate", replace(rule, rates=scaled)
    if rule.kind == "sgd":
        for decay in (1e-4, 1e-2):
            yield f"the rule with weight decay {decay:g}", replace(rule, decay=decay)
        for momentum in (0.9, 0.99):
            yield f"the rule with momentum {momentum:g}", replace(rule, momentum=momentum)
        return
    for epsilon in (1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 0.0):
        if epsilon != rule.epsilon:
            yield f"the rule with epsilon {epsilon:g}", replace(rule, epsilon=epsilon)
    yield "the rule with epsilon inside the root", replace(rule, in_root=True)
    yield "the rule without bias correction", replace(rule, corrected=False)
    swapped = replace(rule, beta1=rule.beta2, beta2=rule.beta1)
    yield "the rule with its betas swapped", swapped
    for beta2 in (0.95, 0.98, 0.99, 0.999):
        if beta2 != rule.beta2:
            yield f"the rule with beta2 {beta2:g}", replace(rule, beta2=beta2)
    for what in ("everything", "nothing", "no embeddings", "no token embeddings"):
        yield f"the rule with decay of {what}", replace(rule, decays=what)
    for decay in (1e-4, 1e-2, 0.1):
        for what in ("matrices", "everything"):
            if (decay, what) != (rule.decay, rule.decays):
                name = f"the rule with weight decay {decay:g} of {what}"
                yield name, replace(rule, decay=decay, decays=what)
    yield "the rule with decay in the gradient (L2)", replace(rule, coupled=True)


def judge(
    start: Params,
    gradients: Sequence[Params],
    ours: Sequence[Params],
    theirs: Sequence[Params],
    rule: Rule | None,
    further: Sequence[NamedRule] = (),
) -> Finding | None:
    """The first update in which two optimizers differ, and by which rule each goes."""
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for name in a:
            before = (ours[step - 1][name], theirs[step - 1][name]) if step else (start[name],) * 2
            moved, other = (np.asarray(x) for x in (a[name] - before[0], b[name] - before[1]))
            scale = numerics.size(moved).at_least(_grid(a[name])).l2
            gap = numerics.distance(moved, other).l2
            if gap > numerics.OWN_RELATIVE["float64"] * scale:
                cause = _cause(start, gradients, ours, theirs, rule, further) if rule else None
                return Finding(
                    stage="update",
                    where=f"{name}, step {step + 1}",
                    cause=cause,
                    evidence=f"updates by the same gradients: relative distance {gap / scale:.3g}; "
                    + statistics(moved, other),
                )
    return None


def _grid(p: np.ndarray) -> numerics.Size:
    """An update can be no finer than the numbers that it is added to: a ten-thousandth of them."""
    size = numerics.size(p)
    return numerics.Size(size.l2 * 1e-4, size.peak * 1e-4)


def _cause(
    start: Params,
    gradients: Sequence[Params],
    ours: Sequence[Params],
    theirs: Sequence[Params],
    rule: Rule,
    further: Sequence[NamedRule],
) -> str | None:
    mine: str | None = None
    other: str | None = None
    for name, variant in variants(rule, further):
        with np.errstate(all="ignore"):
            predicted = variant.run(start, gradients)
        mine = mine or (name if _follows(predicted, ours, theirs, start) else None)
        other = other or (name if _follows(predicted, theirs, ours, start) else None)
        if mine and other:
            return f"PyTorch follows {mine}, JAX {other}" if mine != other else None
    return None


def _follows(
    predicted: Sequence[Params], found: Sequence[Params], twin: Sequence[Params], start: Params
) -> bool:
    """Whether a rule gives a side's parameters, or all but a hundredth of what sets them apart."""
    for after, own, other in zip(predicted, found, twin, strict=True):
        for name in start:
            scale = max(numerics.size(np.asarray(after[name] - start[name])).l2, 1e-12)
            apart = numerics.distance(own[name], other[name]).l2
            near = max(FIT * scale, min(COARSE * scale, 0.01 * apart))
            if not numerics.distance(after[name], own[name]).l2 <= near:
                return False
    return True


def judge_rounded(
    start: Params,
    gradients: Sequence[Params],
    ours: Sequence[Params],
    theirs: Sequence[Params],
    rule: Rule,
) -> Finding | None:
    """The first float32 update that one optimizer rounds more than the other, against the rule."""
    exact = rule.run(start, gradients)
    for step in range(len(exact)):
        for name in start:
            moved = _moved(start, (ours, theirs, exact), step, name)
            # An update is rounded as the parameter is that it moves.
            scale = numerics.size(moved[2]).at_least(numerics.size(np.asarray(exact[step][name])))
            apart = numerics.gaps(*moved)
            verdict = numerics.judge_rounded(
                name, "update", apart, scale, "float32", start[name].size
            )
            if not verdict.ok:
                side = 0 if apart.torch.l2 > apart.jax.l2 else 1
                return Finding(
                    stage="update",
                    where=f"{name}, step {step + 1}",
                    cause=_coarse(start, gradients, (ours, theirs)[side], rule, side),
                    evidence=f"float32 updates by the same gradients: PyTorch is "
                    f"{verdict.torch_error_u:.3g} u off, JAX {verdict.jax_error_u:.3g} u",
                )
    return None


def _moved(
    start: Params, runs: Sequence[Sequence[Params]], step: int, name: str
) -> list[np.ndarray]:
    return [
        np.asarray(np.asarray(run[step][name], float) - (run[step - 1] if step else start)[name])
        for run in runs
    ]


def _coarse(
    start: Params, gradients: Sequence[Params], found: Sequence[Params], rule: Rule, side: int
) -> str | None:
    """The lower precision of the first moment that most of one side's error goes away with."""
    runs = {"": rule.run(start, gradients)}
    for name in LOW_PRECISIONS:
        runs[name] = replace(rule, kept=name).run(start, gradients)
    left = {
        kept: math.hypot(*(numerics.distance(run[-1][n], found[-1][n]).l2 for n in start))
        for kept, run in runs.items()
    }
    best = min(left, key=lambda kept: left[kept])
    who = ("PyTorch", "JAX")[side]
    return f"{who}'s first moment is kept in {best}" if best and left[best] < left[""] / 2 else None


def compare(both: Both, seen: Pass) -> Iterator[Finding]:
    """The updates of a pair's own optimizers on PyTorch's gradients."""
    import jax
    import optax
    import torch

    pair = both.pair
    assert pair.torch_optimizer is not None
    raw = both.ours(seen.gradients)
    size = math.hypot(*(numerics.size(g).l2 for g in raw.values())) or 1.0
    gradients = [{n: g * (f / size) for n, g in raw.items()} for f in FACTORS]
    whole = [{n: g * (f / size) for n, g in seen.gradients.items()} for f in FACTORS]
    trained = dict(both.torch.named_parameters())
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = pair.torch_optimizer(trained.values())
    start = both.ours({name: p.detach().numpy().copy() for name, p in trained.items()})
    ours = []
    for step in whole:
        for name, p in trained.items():
            p.grad = torch.from_numpy(step[name].copy())
        optimizer.step()
        ours.append(both.ours({name: p.detach().numpy().copy() for name, p in trained.items()}))
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(before[name])
    params = {p.jax: both.jax.tensors[p.jax] for p in both.partners if p.jax in both.jax.trained}
    state, theirs = pair.jax_optimizer.init(params), []
    for step in whole:
        given = {
            p.jax: jax.numpy.asarray(p.to_jax(step[p.torch]))
            for p in both.partners
            if p.jax in both.jax.trained
        }
        moved, state = pair.jax_optimizer.update(given, state, params)
        params = optax.apply_updates(params, moved)
        theirs.append(both.in_torch({path: np.asarray(x) for path, x in params.items()}))
    found = judge(start, gradients, ours, theirs, _of_torch(optimizer, len(whole)))
    if found:
        yield found


def _of_torch(optimizer: Any, steps: int) -> Rule | None:
    """The rule of PyTorch's own optimizer, read from its settings."""
    group = optimizer.param_groups[0]
    rates = (float(group["lr"]),) * steps
    kind = type(optimizer).__name__
    if kind in ("AdamW", "Adam"):
        beta1, beta2 = group["betas"]
        return Rule(
            rates=rates,
            beta1=beta1,
            beta2=beta2,
            epsilon=group["eps"],
            decay=group["weight_decay"],
            decays="everything",
            coupled=kind == "Adam",
        )
    if kind == "SGD":
        return Rule(kind="sgd", rates=rates, momentum=group["momentum"],
                    decay=group["weight_decay"], decays="everything")  # fmt: skip
    return None
