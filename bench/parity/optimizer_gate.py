"""The optimizer gate: updates under the same injected gradients, against the rule written out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.harness.foreign import Array
from bench.harness.programs import Program
from bench.parity.judging import judged
from shared import by_hand
from shared.params import Params
from twingrad import numerics
from twingrad.numerics import Gaps, Size, Verdict, gaps, judge_float64, judge_rounded

Steps = dict[int, Array]  # one parameter after some of the optimizer's steps


@dataclass(frozen=True)
class InjectedGradients:
    """Gradients for the optimizer: the same numbers for both frameworks and in every dtype.

    They are ``gradients``, which float64 gave, multiplied by a factor for each step: some steps are
    then clipped and some are not, and the sign changes.
    """

    program: Program
    all_gradients: Params

    @cached_property
    def gradients(self) -> Params:
        """Those of the parameters that the optimizer gate moves."""
        trained = self.program.optimizer_part or self.program
        return {name: self.all_gradients[name] for name in trained.params}

    @cached_property
    def factors(self) -> list[float]:
        """A factor for each step."""
        norm = math.hypot(*(numerics.size(g).l2 for g in self.gradients.values()))
        return [(0.5, -3.0, 0.8, 2.0)[i % 4] / norm for i in range(self.program.optimizer_steps)]

    @cached_property
    def norms(self) -> list[float]:
        """Joint norm of the gradients at each step."""
        return [
            math.hypot(
                *(
                    numerics.size(_scaled(g[block], factor)).l2
                    for g in self.gradients.values()
                    for block in numerics.blocks(g.shape)
                )
            )
            for factor in self.factors
        ]

    def by_step(self) -> Iterator[Params]:
        """The gradients, step by step."""
        for factor in self.factors:
            yield {name: _scaled(g, factor) for name, g in self.gradients.items()}


def judge_updates(
    injected: InjectedGradients,
    optimizer: str,
    torch: dict[int, Params],
    jax: dict[int, Params],
    dtype: str,
) -> Iterator[Verdict]:
    """Every parameter's updates by ``optimizer``; ``torch`` and ``jax`` are parameters by step."""

    def judge(name: str) -> list[Verdict]:
        steps = tuple(
            {step: params[name] for step, params in moved.items()} for moved in (torch, jax)
        )
        return list(_judge_parameter(injected, optimizer, name, steps, dtype))

    _ = injected.norms  # computed once, and not by every thread
    for verdicts in judged(judge, injected.gradients):
        yield from verdicts


def _judge_parameter(
    injected: InjectedGradients, optimizer: str, name: str, steps: tuple[Steps, ...], dtype: str
) -> Iterator[Verdict]:
    """One parameter's updates, step by step, against the optimizer written out by hand."""
    start = injected.program.params[name]
    config = injected.program.optimizers[optimizer]
    judged: dict[int, tuple[Gaps, Size]] = {}
    for block in numerics.blocks(start.shape):
        gradient = injected.gradients[name][block]
        gradients = [_scaled(gradient, factor) for factor in injected.factors]
        blocks = [{step: value[block] for step, value in moved.items()} for moved in steps]
        exact = by_hand.optimizer_steps(start[block], gradients, injected.norms, config)
        for step, apart, scale in _updates(start[block], blocks, exact):
            if step in judged:
                apart, scale = apart.joined(judged[step][0]), scale.joined(judged[step][1])
            judged[step] = apart, scale
    for step, (apart, scale) in judged.items():
        label = f"{optimizer}[{step}] {name}"
        if dtype == "float64":
            yield judge_float64(label, "update", apart, scale)
        else:
            yield judge_rounded(label, "update", apart, scale, dtype, start.size)


def _updates(
    start: Array, steps: list[Steps], exact_steps: Iterator[Array]
) -> Iterator[tuple[int, Gaps, Size]]:
    """How far apart the updates are at each step that was kept, and their size."""
    torch, jax = steps
    before = (start, start, start)
    for step, exact in enumerate(exact_steps):
        if step in torch:
            after = (torch[step], jax[step], exact)
            moved = [
                np.asarray(np.subtract(new, old, dtype=np.float64))
                for new, old in zip(after, before, strict=True)
            ]
            # An update is added to its parameter, and can be no finer than that one's grid.
            scale = numerics.size(moved[2]).at_least(numerics.size(start))
            yield step, gaps(*moved), scale
            before = after


def _scaled(gradient: Array, factor: float) -> Array:
    """A scaled gradient in float32, which every dtype under test but 16-bit ones holds exactly."""
    rounded = np.empty(gradient.shape, np.float32)
    np.multiply(gradient, factor, out=rounded, dtype=np.float64, casting="same_kind")
    return rounded
