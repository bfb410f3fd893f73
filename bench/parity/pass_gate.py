"""The gates of a forward and backward pass: every activation, loss and gradient."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.harness.foreign import Array, ByHand
from bench.harness.programs import Program
from bench.parity.judging import judged
from shared import by_hand
from shared.observation import Observation
from shared.params import Params
from twingrad import numerics
from twingrad.numerics import Size, Verdict, gaps, judge_float64, judge_rounded
from twingrad.outcome import OUTPUT, Gate

ABSENT = np.full(0, np.nan)  # stands for a tensor that a framework does not have


@dataclass(frozen=True)
class TensorPair:
    """One tensor of both frameworks."""

    name: str
    kind: str
    torch: Array
    jax: Array


def judge_frameworks(program: Program, torch: Observation, jax: Observation) -> Gate:
    """float64: one framework against the other, and the gradient by hand where there is one."""
    third: Params = {}
    if program.by_hand is not None:
        loss, output, gradients = program.by_hand(*_wide_start(program))
        third = {"loss": loss, program.output_name: output, **gradients}
    pairs = list(_pairs(torch, jax, program.output_name))
    shared = _shared_scales(pairs)

    def judge(pair: TensorPair) -> Verdict:
        apart = gaps(pair.torch, pair.jax, third.get(pair.name))
        return judge_float64(pair.name, pair.kind, apart, _scale(pair, shared))

    verdicts = judged(judge, pairs)
    return Gate(name="float64", tensors=verdicts)


def judge_against(
    oracle: Observation, program: Program, dtype: str, torch: Observation, jax: Observation
) -> Gate:
    """Lower precision: each framework's errors against the float64 ``oracle``."""
    pairs = list(_pairs(torch, jax, program.output_name))
    truths = list(_pairs(oracle, oracle, program.output_name))
    shared = _shared_scales(truths)

    def judge(both: tuple[TensorPair, TensorPair]) -> Verdict:
        pair, truth = both
        apart, scale = gaps(pair.torch, pair.jax, truth.torch), _scale(truth, shared)
        return judge_rounded(pair.name, pair.kind, apart, scale, dtype, truth.torch.size)

    verdicts = judged(judge, zip(pairs, truths, strict=True))
    return Gate(name=dtype, tensors=verdicts)


def judge_central_differences(program: Program, loss_by_hand: ByHand, exact: Params) -> Gate:
    """float64 gradients by automatic differentiation against finite differences."""
    start, *batch = _wide_start(program)
    numeric = by_hand.central_difference(lambda moved: float(loss_by_hand(moved, *batch)[0]), start)
    verdicts = [
        judge_float64(
            name,
            "gradient",
            gaps(exact[name], numeric[name]),
            numerics.size(exact[name]),
            relative=numerics.CENTRAL_DIFFERENCE_RELATIVE,
        )
        for name in exact
    ]
    return Gate(name="central-differences", tensors=verdicts)


def _wide_start(program: Program) -> tuple[Params, *tuple[Array, ...]]:
    """Parameters and the first batch in float64."""
    params = {name: value.astype(np.float64) for name, value in program.params.items()}
    return params, *(array.astype(np.float64) for array in program.batches[0])


def _pairs(torch: Observation, jax: Observation, output_name: str) -> Iterator[TensorPair]:
    """Every tensor in the order of computation: forward, loss, then backward."""
    both = (torch, jax)
    forward = _union(torch.activations, jax.activations)
    for name in forward:
        values = (observed.activations.get(name, ABSENT) for observed in both)
        yield TensorPair(name, "activation", *values)
    yield TensorPair(output_name, "activation", torch.output, jax.output)
    yield TensorPair("loss", "loss", torch.loss, jax.loss)
    for name in reversed(forward):
        values = (observed.activation_gradients.get(name, ABSENT) for observed in both)
        yield TensorPair(f"{name}{OUTPUT}", "gradient", *values)
    for name in _union(torch.gradients, jax.gradients):
        values = (observed.gradients.get(name, ABSENT) for observed in both)
        yield TensorPair(name, "gradient", *values)


def _union(torch: Params, jax: Params) -> list[str]:
    return [*torch, *(name for name in jax if name not in torch)]


def _shared_scales(oracle: list[TensorPair]) -> dict[str, Size]:
    """The sizes of gradients, by name; of those near zero it is the size of all gradients."""
    noisy: dict[str, Params] = {"at": {}, "of": {}}
    for pair in oracle:
        if pair.kind == "gradient":
            noisy["at" if pair.name.endswith(OUTPUT) else "of"][pair.name] = pair.torch
    return numerics.scales(noisy["at"]) | numerics.scales(noisy["of"])


def _scale(truth: TensorPair, shared: dict[str, Size]) -> Size:
    """The size that the error of a tensor is relative to."""
    return shared.get(truth.name) or numerics.size(truth.torch)
