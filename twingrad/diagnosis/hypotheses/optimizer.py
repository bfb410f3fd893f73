"""Two optimizers on the same gradients, and the rule of AdamW or SGD that each follows."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from twingrad import numerics, torch_probe
from twingrad.calls import Pass
from twingrad.diagnosis.finding import Cause, Finding, Form, statistics
from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS, rounded
from twingrad.foreign import Array, Optimizer, Tensor
from twingrad.live import LivePair

Params = dict[str, Array]
Decays = Literal["matrices", "everything", "nothing", "no embeddings", "no token embeddings"]
Clip = Literal["norm", "none", "value", "tensor", "norm and 1e-6", "matrices", "update"]

# Factors of the gradients, step by step: some are clipped, and the sign changes.
FACTORS = (0.5, -3.0, 200.0)
# How near a rule must come to an optimizer's parameters, relative to how far parameters moved.
FIT = 1e-8
COARSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Rule:
    """AdamW or SGD with every choice open; ``rates`` holds one learning rate for each step.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
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
    moment_precision: str | None = None  # a lower one in which the first moment is kept

    def run(self, start: Mapping[str, Array], gradients: Sequence[Params]) -> list[Params]:
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

    def _step(self, m: Params, v: Params, name: str, g: Array, step: int) -> Array:
        if self.kind == "sgd":
            m[name] = self.momentum * m[name] + g
            return m[name]
        low = self.moment_precision
        before = m[name] if low is None else rounded(m[name], low)
        m[name] = self.beta1 * before + (1 - self.beta1) * g
        v[name] = self.beta2 * v[name] + (1 - self.beta2) * g * g
        first = 1 - self.beta1 ** (step + 1) if self.corrected else 1.0
        second = 1 - self.beta2 ** (step + 1) if self.corrected else 1.0
        if self.in_root:
            return m[name] / first / np.sqrt(v[name] / second + self.epsilon)
        return m[name] / first / (np.sqrt(v[name] / second) + self.epsilon)

    def _decayed(self, name: str, p: Array) -> bool:
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
_CLIPPING: dict[Clip, str] = {
    "none": "without clipping",
    "value": "with each number clipped",
    "tensor": "with each tensor clipped by itself",
    "norm and 1e-6": "with 1e-6 added to the norm",
    "matrices": "with a norm over matrices alone",
    "update": "with the update clipped, not the gradients",
}
_DECAYS: tuple[Decays, ...] = ("everything", "nothing", "no embeddings", "no token embeddings")
_DECAYED: tuple[Decays, ...] = ("matrices", "everything")


def _share(norm: float, most: float) -> float:
    return min(1.0, most / norm) if norm else 1.0


def variants(rule: Rule, further: Sequence[NamedRule] = ()) -> Iterator[NamedRule]:
    """The rule and known mistakes, each with its name; ``further`` ones before other rates."""
    yield "the rule", rule
    for clip, mistake in _CLIPPING.items():
        yield f"the rule {mistake}", replace(rule, clip=clip)
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
    for decays in _DECAYS:
        yield f"the rule with decay of {decays}", replace(rule, decays=decays)
    for decay, decays in itertools.product((1e-4, 1e-2, 0.1), _DECAYED):
        if (decay, decays) != (rule.decay, rule.decays):
            name = f"the rule with weight decay {decay:g} of {decays}"
            yield name, replace(rule, decay=decay, decays=decays)
    yield "the rule with decay in the gradient (L2)", replace(rule, coupled=True)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Parameters after each step of both optimizers, from one start and by the same gradients."""

    start: Params
    gradients: Sequence[Params]
    torch: Sequence[Params]
    jax: Sequence[Params]

    def update(self, run: Sequence[Params], step: int, name: str) -> Array:
        """The change of one parameter in one step of one run."""
        before = run[step - 1] if step else self.start
        return np.asarray(np.asarray(run[step][name], float) - before[name])


def judge(runs: Runs, rule: Rule | None, further: Sequence[NamedRule] = ()) -> Finding | None:
    """The first update in which two optimizers differ, and by which rule each goes."""
    for step, params in enumerate(runs.torch):
        for name in params:
            torch, jax = (runs.update(run, step, name) for run in (runs.torch, runs.jax))
            scale = numerics.size(torch).at_least(_grid(params[name])).l2
            gap = numerics.distance(torch, jax).l2
            if gap > numerics.OWN_RELATIVE["float64"] * scale:
                return Finding(
                    stage="update",
                    where=f"{name}, step {step + 1}",
                    reason=_cause(runs, rule, further) if rule else None,
                    evidence=f"updates by the same gradients: relative distance {gap / scale:.3g}; "
                    + statistics(torch, jax),
                    size=gap / scale / numerics.OWN_RELATIVE["float64"],
                )
    return None


def _grid(p: Array) -> numerics.Size:
    """An update can be no finer than the numbers that it is added to: a ten-thousandth of them."""
    size = numerics.size(p)
    return numerics.Size(size.l2 * 1e-4, size.peak * 1e-4)


def _cause(runs: Runs, rule: Rule, further: Sequence[NamedRule]) -> Cause | None:
    torch: str | None = None
    jax: str | None = None
    for name, variant in variants(rule, further):
        with np.errstate(all="ignore"):
            predicted = variant.run(runs.start, runs.gradients)
        torch = torch or (name if _follows(predicted, runs.torch, runs.jax, runs.start) else None)
        jax = jax or (name if _follows(predicted, runs.jax, runs.torch, runs.start) else None)
        if torch and jax:
            return Cause(torch, jax, Form.RULES) if torch != jax else None
    return None


def _follows(
    predicted: Sequence[Params], actual: Sequence[Params], twin: Sequence[Params], start: Params
) -> bool:
    """Whether a rule gives the parameters of one run, within a hundredth of its twin's distance."""
    for expected, params, other in zip(predicted, actual, twin, strict=True):
        for name in start:
            scale = max(numerics.size(np.asarray(expected[name] - start[name])).l2, 1e-12)
            apart = numerics.distance(params[name], other[name]).l2
            near = max(FIT * scale, min(COARSE * scale, 0.01 * apart))
            if not numerics.distance(expected[name], params[name]).l2 <= near:
                return False
    return True


def judge_rounded(runs: Runs, rule: Rule) -> Finding | None:
    """The first float32 update that one optimizer rounds more than the other, against the rule."""
    exact = rule.run(runs.start, runs.gradients)
    for step in range(len(exact)):
        for name, p in runs.start.items():
            torch, jax, truth = (
                runs.update(run, step, name) for run in (runs.torch, runs.jax, exact)
            )
            # An update is rounded as the parameter is that it moves.
            scale = numerics.size(truth).at_least(numerics.size(np.asarray(exact[step][name])))
            gaps = numerics.gaps(torch, jax, truth)
            verdict = numerics.judge_rounded(name, "update", gaps, scale, "float32", p.size)
            if not verdict.ok:
                coarse = "PyTorch" if gaps.torch.l2 > gaps.jax.l2 else "JAX"
                params = runs.torch if coarse == "PyTorch" else runs.jax
                return Finding(
                    stage="update",
                    where=f"{name}, step {step + 1}",
                    reason=_low_moment(runs, params, rule, coarse),
                    evidence=f"float32 updates by the same gradients: PyTorch is "
                    f"{verdict.torch_error_u:.3g} u off, JAX {verdict.jax_error_u:.3g} u",
                    dtype="float32",
                )
    return None


def _low_moment(runs: Runs, params: Sequence[Params], rule: Rule, framework: str) -> Cause | None:
    """The lower precision of the first moment that explains most of one optimizer's error."""

    def error(moment_precision: str | None) -> float:
        predicted = replace(rule, moment_precision=moment_precision)
        last = predicted.run(runs.start, runs.gradients)[-1]
        return math.hypot(*(numerics.distance(last[n], params[-1][n]).l2 for n in runs.start))

    errors = {precision: error(precision) for precision in (None, *LOW_PRECISIONS)}
    best = min(errors, key=lambda precision: errors[precision])
    if best is None or errors[best] >= errors[None] / 2:
        return None
    return Cause.statement(f"{framework}'s first moment is kept in {best}")


def compare(live: LivePair, seen: Pass) -> Iterator[Finding]:
    """Judge the updates of a pair's own optimizers on PyTorch's gradients."""
    if live.pair.torch_optimizer is None:
        return
    raw = _alone(live, seen.gradients, gradients=True)
    norm = math.hypot(*(numerics.size(g).l2 for g in raw.values())) or 1.0
    gradients = [{n: g * (f / norm) for n, g in raw.items()} for f in FACTORS]
    whole = [{n: g * (f / norm) for n, g in seen.gradients.items()} for f in FACTORS]
    trained = dict(live.torch.named_parameters())
    optimizer = live.pair.torch_optimizer(trained.values())
    start = _alone(live, torch_probe.copies(trained))
    runs = Runs(
        start=start,
        gradients=gradients,
        torch=_torch_steps(live, optimizer, trained, whole),
        jax=_jax_steps(live, whole),
    )
    finding = judge(runs, _rule_of(optimizer, len(whole)))
    if finding:
        yield finding


def _alone(live: LivePair, values: Mapping[str, Array], gradients: bool = False) -> Params:
    """PyTorch's tensors by name, without sums: each of the summands moves as JAX's one tensor."""
    sums = {p.name for p in live.partners if p.added}
    parts = live.torch_parts(values, gradients)
    return {name: value for name, value in parts.items() if name not in sums}


def _torch_steps(
    live: LivePair, optimizer: Optimizer, trained: Mapping[str, Tensor], gradients: list[Params]
) -> list[Params]:
    """PyTorch's parameters after each step; the model's are then as they were."""
    before = torch_probe.copies(trained)
    steps = []
    for step in gradients:
        torch_probe.set_gradients(trained, step)
        optimizer.step()
        steps.append(_alone(live, torch_probe.copies(trained)))
    torch_probe.write(trained, before)
    return steps


def _jax_steps(live: LivePair, gradients: list[Params]) -> list[Params]:
    """JAX's parameters after each step, in PyTorch's layout."""
    import jax
    import optax

    optimizer = live.pair.jax_optimizer
    trained = {p.jax for p in live.partners} & live.jax.trained
    params = {path: x for path, x in live.jax.tensors.items() if path in trained}
    state, steps = optimizer.init(params), []
    for step in gradients:
        in_jax = live.in_jax(step, gradients=True)
        by_path = {path: jax.numpy.asarray(in_jax[path]) for path in params}
        updates, state = optimizer.update(by_path, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(live.in_torch({path: np.asarray(x) for path, x in params.items()}))
    return steps


def _rule_of(optimizer: Optimizer, steps: int) -> Rule | None:
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
