"""Two optimizers on the same gradients, and the rule that each of them follows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from twingrad import numerics
from twingrad.calls import Pass
from twingrad.casts import log
from twingrad.casts.log import CastLog
from twingrad.diagnosis.finding import Cause, Finding, Form, statistics
from twingrad.diagnosis.hypotheses import rules
from twingrad.diagnosis.hypotheses.context import LOW_PRECISIONS
from twingrad.diagnosis.hypotheses.rules import NamedRule, Params, Rule
from twingrad.foreign import Array
from twingrad.live import LivePair, run_foreign

# Factors of the gradients, step by step: some are clipped, the sign changes, and the last is small,
# so that what was largest before is not what is largest now.
FACTORS = (0.5, -3.0, 200.0, 0.5)
# How near a rule must come to an optimizer's parameters, relative to how far parameters moved.
FIT = 1e-8
COARSE = 1e-5
ALIKE = 1e-6  # relative: two learning rates that differ by their rounding to float32 at most


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
    """The rule that each follows, by what the two differ in."""
    named = _known(runs, rules.variants(rule, further))
    torch = _first(runs, named, runs.torch, runs.jax)
    torch = torch or _first(runs, list(rules.clipped(rule)), runs.torch, runs.jax)
    if torch is None:
        return None
    if torch[1].max_norm != rule.max_norm:
        named = _known(runs, rules.variants(torch[1]))
    jax = _first(runs, named, runs.jax, runs.torch)
    if jax:
        return Cause(torch[0], jax[0], Form.RULES) if torch[0] != jax[0] else None
    return _other_rates(runs, torch) or _other_decays(runs, torch)


def _known(runs: Runs, named: Iterator[NamedRule]) -> list[NamedRule]:
    """The rules, without those that tell embeddings apart where there are none by that name."""
    embeds = any(name.startswith(("wte", "wpe")) for name in runs.start)
    return [(name, rule) for name, rule in named if embeds or not rule.decays.startswith("no ")]


def _first(
    runs: Runs, named: Sequence[NamedRule], run: Sequence[Params], twin: Sequence[Params]
) -> NamedRule | None:
    """The first rule that gives the parameters of one run: to the last digits, else nearly."""
    near = None
    for name, variant in named:
        with np.errstate(all="ignore"):
            predicted = variant.run(runs.start, runs.gradients)
        if _follows(predicted, run, twin, runs.start, FIT):
            return name, variant
        if near is None and _follows(predicted, run, twin, runs.start, COARSE):
            near = (name, variant)
    return near


def _other_rates(runs: Runs, torch: NamedRule) -> Cause | None:
    """JAX's learning rates, where it follows PyTorch's rule by others."""
    rule = torch[1]
    p = {name: np.asarray(value, float) for name, value in runs.start.items()}
    m, v = rule.moments(p)
    rates = []
    for step, gradients in enumerate(runs.gradients):
        after = {name: np.asarray(value, float) for name, value in runs.jax[step].items()}
        moved = dict(p)
        clipped = rule.clipped({n: np.asarray(g, float) for n, g in gradients.items()})
        with np.errstate(all="ignore"):
            rule.move(moved, m, v, clipped, 1.0, step)
        unit = np.concatenate([(moved[n] - p[n]).ravel() for n in p])
        real = np.concatenate([(after[n] - p[n]).ravel() for n in p])
        rate = float(unit @ real / (unit @ unit)) if unit.any() else 0.0
        grid = np.concatenate([after[n].ravel() for n in p]) * numerics.UNIT_ROUNDOFF["float64"]
        if np.linalg.norm(real - rate * unit) > FIT * np.linalg.norm(real) + np.linalg.norm(grid):
            return None
        rates.append(rate)
        p = after
    words = _schedule(rule.rates, rates)
    return Cause(torch[0], f"{rule.title} {words}", Form.RULES) if words else None


def _schedule(torch: Sequence[float], jax: Sequence[float]) -> str | None:
    """What JAX's learning rates are to PyTorch's; nothing where rounding alone parts them."""

    def alike(first: Sequence[float], second: Sequence[float]) -> bool:
        return bool(np.allclose(first, second, rtol=ALIKE, atol=1e-12))

    if alike(torch, jax):
        return None
    listed = f"learning rates {_listed(jax)} for {_listed(torch)}"
    if len(set(torch)) > 1 and alike(jax[1:], torch[:-1]):
        return f"with the schedule one step behind ({listed})"
    if len(set(torch)) > 1 and alike(jax[:-1], torch[1:]):
        return f"with the schedule one step ahead ({listed})"
    return f"with other learning rates ({listed})"


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:.6g}" for rate in rates)


def _other_decays(runs: Runs, torch: NamedRule) -> Cause | None:
    """The parameters that decay in JAX, where it follows PyTorch's rule for others."""
    rule = torch[1]
    if not rule.decay:
        return None
    every = frozenset(name.partition("[")[0] for name in runs.start)
    whole, none = (
        replace(rule, decayed=names).run(runs.start, runs.gradients)[0]
        for names in (every, frozenset[str]())
    )
    decayed = set()
    for name in runs.start:
        actual = runs.jax[0][name]
        if numerics.distance(actual, whole[name]).l2 < numerics.distance(actual, none[name]).l2:
            decayed.add(name.partition("[")[0])
    other = replace(rule, decayed=frozenset(decayed))
    predicted = other.run(runs.start, runs.gradients)
    if not _follows(predicted, runs.jax, runs.torch, runs.start, COARSE):
        return None
    own = {n.partition("[")[0] for n, p in runs.start.items() if rule.decays_of(n, p)}
    more, less = sorted(decayed - own), sorted(own - decayed)
    words = [f"decay of {', '.join(more)} too" if more else ""]
    words.append(f"no decay of {', '.join(less)}" if less else "")
    text = " and ".join(word for word in words if word)
    return Cause(torch[0], f"{rule.title} with {text}", Form.RULES) if text else None


def _follows(
    predicted: Sequence[Params],
    actual: Sequence[Params],
    twin: Sequence[Params],
    start: Params,
    coarse: float,
) -> bool:
    """Whether a rule gives the parameters of one run, within a hundredth of its twin's distance."""
    for expected, params, other in zip(predicted, actual, twin, strict=True):
        for name in start:
            scale = max(numerics.size(np.asarray(expected[name] - start[name])).l2, 1e-12)
            apart = numerics.distance(params[name], other[name]).l2
            near = max(FIT * scale, min(coarse * scale, 0.01 * apart))
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


OPTIMIZER = "optimizer"  # where casts of its updates are


def compare(live: LivePair, seen: Pass, heard: CastLog | None = None) -> Iterator[Finding]:
    """Judge the updates of a pair's own optimizers, both given the same gradients.

    They are PyTorch's, or those that a recorded JAX model was given. ``heard`` hears of casts.
    """
    if not live.has_optimizers:
        return
    whole = live.step_gradients(scaled(seen.gradients))
    views = live.torch.views()
    make = live.pair.torch_optimizer
    steps, rule = run_foreign("torch_optimizer", lambda: live.torch.stepped(make, whole))
    runs = Runs(
        start=_alone(live, {name: views[name].copy() for name in live.torch.trained}),
        gradients=[_alone(live, step, gradients=True) for step in whole],
        torch=[_alone(live, step) for step in steps],
        jax=_jax_steps(live, whole, heard or CastLog()),
    )
    finding = judge(runs, rule)
    if finding:
        yield finding


def scaled(gradients: Mapping[str, Array]) -> list[Params]:
    """The gradients that optimizers are given, step by step: of norms that are ``FACTORS``."""
    norm = math.hypot(*(numerics.size(g).l2 for g in gradients.values())) or 1.0
    return [{n: np.asarray(g * (f / norm)) for n, g in gradients.items()} for f in FACTORS]


def _alone(live: LivePair, values: Mapping[str, Array], gradients: bool = False) -> Params:
    """PyTorch's tensors by name, without sums: each of the summands moves as JAX's one tensor."""
    sums = {p.name for p in live.partners if p.added}
    parts = live.torch_parts(values, gradients)
    return {name: value for name, value in parts.items() if name not in sums}


def _jax_steps(live: LivePair, gradients: list[Params], heard: CastLog) -> list[Params]:
    """JAX's parameters after each step, in PyTorch's layout."""
    paths = sorted({p.jax for p in live.partners} & live.jax.trained)
    in_jax = [live.in_jax(step, gradients=True) for step in gradients]

    def steps() -> list[Params]:
        with log.inside(OPTIMIZER):
            return live.jax.stepped(live.pair.jax_optimizer, paths, in_jax)

    return [live.in_torch(step) for step in live.on_jax(steps, heard, "jax_optimizer")]
