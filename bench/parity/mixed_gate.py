"""The gates of mixed precision: training in bfloat16 with parameters and moments in float32.

A step is taken apart. Its pass is in bfloat16, and is judged by float64 at the same parameters,
each framework's at its own. What follows is in float32, and is judged by that dtype's rounding.
All errors are in units of u of the narrow dtype.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.harness.foreign import Array
from bench.harness.training_steps import STEP_METRICS, StepMetrics
from bench.parity.mixed_runs import MixedRun, TrainerPass, TrainerStep
from shared.config import AdamWConfig, OptimizerConfig
from shared.params import Params
from shared.schedule import learning_rate
from twingrad import numerics
from twingrad.numerics import Gaps, Size, Verdict
from twingrad.outcome import Gate

NARROW = "bfloat16"  # the dtype of the pass
MASTER = "float32"  # the dtype of parameters, moments, and sums of gradients

Passes = tuple[TrainerPass, TrainerPass]  # PyTorch's and JAX's


@dataclass(frozen=True)
class Measured:
    """A tensor that a framework computed, and the exact one by which it is judged.

    The error is relative to ``scale``, or to the exact tensor without one.
    """

    found: Array
    exact: Array
    scale: Size | None = None


@dataclass(frozen=True)
class References:
    """What passes in mixed precision are judged by.

    ``first`` is the first batch's pass in float64, in both frameworks; PyTorch's is the reference,
    and JAX's shows that it is JAX's too. ``steps`` are PyTorch's passes of the recorded steps, in
    float64 at either framework's own parameters.
    """

    first: Passes
    steps: Sequence[Passes]


def judge_passes(
    torch: MixedRun, jax: MixedRun, references: References, config: OptimizerConfig
) -> Gate:
    """The loss and the gradients of passes, and the sums of gradients over micro-batches."""
    exact, exact_in_jax = references.first
    verdicts = list(_judged_float64(exact, exact_in_jax))
    label = ", all logits at once" if torch.steps else ""
    verdicts += _judged((torch.alone, jax.alone), (exact, exact), label)
    if torch.parts and jax.parts:
        (whole, *parts), (jax_whole, *jax_parts) = (
            [_pass_of(step, config) for step in run.parts] for run in (torch, jax)
        )
        means = (_mean(parts), _mean(jax_parts))
        verdicts += _judged((whole, jax_whole), means, ", added up", MASTER)
    if torch.steps and jax.steps:
        taken = [_stacked([_pass_of(step, config) for step in run.steps]) for run in (torch, jax)]
        own = [_stacked(list(passes)) for passes in zip(*references.steps, strict=True)]
        label = f", {len(torch.steps)} steps"
        verdicts += _judged((taken[0], taken[1]), (own[0], own[1]), label)
    return Gate(name="mixed pass", tensors=verdicts)


def judge_updates(torch: MixedRun, jax: MixedRun, config: OptimizerConfig) -> Gate:
    """Each framework's updates against AdamW written out, from its own state and gradients."""
    verdicts = []
    for number, steps in enumerate(zip(torch.steps, jax.steps, strict=True)):
        torch_update, jax_update = (_measured_update(step, config) for step in steps)
        for (stage, name), measured in torch_update.items():
            pair = (measured, jax_update[stage, name])
            label = f"{stage}[{number}] {name}".rstrip()
            verdicts.append(_verdict(label, "update", pair, MASTER))
    return Gate(name="mixed update", tensors=verdicts)


def judge_trajectory(
    torch: StepMetrics, jax: StepMetrics, wider: Mapping[str, StepMetrics]
) -> Gate:
    """The metrics of all steps against runs in ``wider`` dtypes, a metric's curve as one tensor.

    Its error is relative to how far the metric moves: the constant part of a loss is no merit.
    """
    verdicts = []
    for wide_dtype, exact in wider.items():
        for name, kind in STEP_METRICS.items():
            moves = numerics.size(exact[name] - exact[name].mean())
            pair = tuple(Measured(side[name], exact[name], moves) for side in (torch, jax))
            label = f"{name}, by {wide_dtype}"
            verdicts.append(_verdict(label, kind, (pair[0], pair[1])))
    return Gate(name="mixed trajectory", tensors=verdicts)


def _judged_float64(torch: TrainerPass, jax: TrainerPass) -> Iterator[Verdict]:
    """Loss and gradients of two passes in float64, against one another."""
    scales = numerics.scales(torch.gradients)
    named = [("loss", "loss", torch.loss, jax.loss, numerics.size(torch.loss))]
    for name, scale in scales.items():
        named.append((name, "gradient", torch.gradients[name], jax.gradients[name], scale))
    for name, kind, *pair, scale in named:
        apart = numerics.gaps(*pair)
        verdict = numerics.judge_float64(f"{name} in float64", kind, apart, scale)
        yield numerics.counted_in(verdict, "float64", NARROW)


def _judged(
    passes: Passes, exact: Passes, suffix: str, rounding: str = NARROW
) -> Iterator[Verdict]:
    """Loss and gradients of ``passes``, judged as numbers rounded to ``rounding``."""
    losses = [Measured(p.loss, e.loss) for p, e in zip(passes, exact, strict=True)]
    yield _verdict(f"loss{suffix}", "loss", (losses[0], losses[1]), rounding)
    torch, jax = passes
    scales = [numerics.scales(e.gradients) for e in exact]
    for name in exact[0].gradients:
        pair = tuple(
            Measured(p.gradients[name], e.gradients[name], scale[name])
            for p, e, scale in zip((torch, jax), exact, scales, strict=True)
        )
        label = f"{name}{suffix}"
        yield _verdict(label, "gradient", (pair[0], pair[1]), rounding)


def _stacked(passes: Sequence[TrainerPass]) -> TrainerPass:
    """Several passes as one: in a small tensor of a single one the error is partly luck."""
    names = passes[0].gradients
    return TrainerPass(
        np.stack([each.loss for each in passes]),
        {name: np.stack([each.gradients[name] for each in passes]) for name in names},
    )


def _mean(passes: Sequence[TrainerPass]) -> TrainerPass:
    """The mean of ``passes``, in float64."""
    first, *others = passes
    loss = _wide(first.loss)
    gradients = {name: _wide(gradient) for name, gradient in first.gradients.items()}
    for each in others:
        loss = loss + each.loss
        gradients = {name: total + each.gradients[name] for name, total in gradients.items()}
    count = len(passes)
    return TrainerPass(
        np.asarray(loss / count), {name: total / count for name, total in gradients.items()}
    )


def _clipped(step: TrainerStep, config: OptimizerConfig) -> Params:
    """The gradients of ``step`` after clipping, found again from the first moment, in float64."""
    beta = _adamw(config).beta1
    before, after = step.before.first_moment, step.after.first_moment
    return {name: (_wide(after[name]) - beta * before[name]) / (1 - beta) for name in after}


def _pass_of(step: TrainerStep, config: OptimizerConfig) -> TrainerPass:
    """The pass that ``step`` began with."""
    unclip = max(1.0, step.grad_norm / _adamw(config).max_grad_norm)
    gradients = {name: gradient * unclip for name, gradient in _clipped(step, config).items()}
    return TrainerPass(np.asarray(step.loss), gradients)


def _measured_update(step: TrainerStep, config: OptimizerConfig) -> dict[tuple[str, str], Measured]:
    """One step's stages, by stage and parameter, each judged by the stage before it."""
    adamw, before, after = _adamw(config), step.before, step.after
    count = before.step + 1
    rate = float(learning_rate(before.step, adamw))
    clipped, measured = _clipped(step, config), {}
    norm = np.asarray(math.hypot(*(numerics.size(g).l2 for g in clipped.values())))
    bound = np.asarray(min(adamw.max_grad_norm, step.grad_norm))
    measured["clipped norm", ""] = Measured(norm, bound)
    for name, gradient in clipped.items():
        v0, v1 = (_wide(state.second_moment[name]) for state in (before, after))
        square = adamw.beta2 * v0 + (1 - adamw.beta2) * gradient**2
        measured["second moment", name] = Measured(v1, square)
        p0, p1 = (_wide(state.params[name]) for state in (before, after))
        m_hat = _wide(after.first_moment[name]) / (1 - adamw.beta1**count)
        v_hat = v1 / (1 - adamw.beta2**count)
        decay = adamw.weight_decay if p0.ndim >= 2 else 0.0
        update = -rate * (m_hat / (np.sqrt(v_hat) + adamw.epsilon) + decay * p0)
        # An update is added to its parameter, and can be no finer than that one's grid.
        grid = numerics.size(update).at_least(numerics.size(p0))
        measured["adamw", name] = Measured(p1 - p0, update, grid)
    return measured


def _adamw(config: OptimizerConfig) -> AdamWConfig:
    if not isinstance(config, AdamWConfig):
        raise ValueError(f"mixed precision is judged with AdamW, not with {config}")
    return config


def _wide(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64)


def _verdict(
    name: str, kind: str, pair: tuple[Measured, Measured], rounding: str = NARROW
) -> Verdict:
    """``pair`` judged as results rounded to ``rounding``, in units of ``NARROW``."""
    torch, jax = pair
    apart = Gaps(
        numerics.distance(torch.found, torch.exact),
        numerics.distance(jax.found, jax.exact),
        numerics.distance(torch.found, jax.found),
    )
    scale = torch.scale or numerics.size(torch.exact)
    verdict = numerics.judge_rounded(name, kind, apart, scale, rounding, torch.exact.size)
    return numerics.counted_in(verdict, rounding, NARROW)
