"""The engine: both sides run from the same start, and every tensor is judged, gate by gate.

float64 comes first, one side against the other. Where it holds, it is the oracle against which both
sides' lower precisions are judged. Then the optimizer under injected gradients, then a trajectory.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from bench.harness.foreign import Batch
from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from shared import by_hand
from shared.config import OptimizerConfig, TrainConfig
from shared.observation import Observation
from shared.params import Params
from twingrad import numerics
from twingrad.numerics import Gaps, Size, Verdict, gaps, judge_float64, judge_rounded
from twingrad.outcome import OUTPUT, Gate, Outcome, first_divergence

DTYPES = ("float64", "float32", "bfloat16", "tf32")
NEIGHBOURS = 4  # runs from starts one ulp away, which calibrate the trajectory's envelope

# What is judged of a training step, by kind: the mean loss, the joint norm of the gradients, and
# the summed loss of the same batch after the update, without dropout.
FIGURES = {"loss": "loss", "grad_norm": "gradient", "val_loss": "loss"}

T = TypeVar("T")
Figures = dict[str, np.ndarray]  # a number for each training step, by names in FIGURES
Say = Callable[[str], None]


@dataclass(kw_only=True)
class Comparison:
    """One program on both sides; keeps the float64 results that later dtypes are judged by.

    ``say`` hears what is being done. ``last`` is the dtype in which a large model's optimizer is
    judged, once. With ``keep`` the last pair of observations stays in ``observed``.
    """

    program: Program
    sides: tuple[Framework, Framework]
    device: str
    say: Say = lambda text: None
    last: str = "float32"
    keep: bool = False
    observed: dict[str, Observation] = field(default_factory=dict)
    _oracle: Observation | None = None
    _oracle_figures: Figures = field(default_factory=dict)

    def run(self, dtype: str) -> Outcome:
        """Judge ``dtype``; float64 must have been run before any other. Stops at a failed gate."""
        program = self.program
        outcome = Outcome(
            program=program.name, preset=program.preset, dtype=dtype, device=self.device
        )
        started = time.perf_counter()
        for judge in self._gates(dtype):
            gate = judge(dtype)
            if program.is_large:
                gc.collect()
            outcome.gates.append(gate)
            if not gate.ok:
                outcome.first_forward, outcome.first_backward = first_divergence(gate)
                break
        outcome.seconds = time.perf_counter() - started
        outcome.settings = {side.name: side.runtime.settings() for side in self.sides}
        return outcome

    def _gates(self, dtype: str) -> Iterator[Callable[[str], Gate]]:
        yield self._pass
        if dtype == "float64" and self.program.by_hand:
            yield self._central_differences
        if dtype in ("bfloat16", "tf32"):
            return  # what these add to float32 is the precision of the pass
        if not self.program.is_large or dtype == self.last:
            yield self._optimizer
        if len(self.program.batches) > 1:
            yield self._trajectory

    def _build(
        self,
        side: Framework,
        dtype: str,
        program: Program | None = None,
        params: Params | None = None,
    ) -> tuple[Any, Any]:
        program = program or self.program
        runtime = side.runtime.configure(dtype, self.device)
        given = program.params if params is None else params
        model = program.build(side, runtime, given)
        model.eval()
        return model, runtime

    def _loss_fn(self, side: Framework) -> Callable:
        return self.program.loss_fn(side)

    def _on_both(self, run: Callable[[Framework], T], together: bool = True) -> tuple[T, T]:
        """``run`` on both sides, at once where memory allows: one computes while one compiles."""
        with ThreadPoolExecutor(max_workers=2 if together else 1) as pool:
            torch, jax = pool.map(run, self.sides)
        return torch, jax

    def observe(self, side: Framework, dtype: str) -> Observation:
        """One pass of one side; the dtype it computed in is checked, not assumed."""
        self.say(f"{self.program.title}, {dtype}: forward and backward in {side.name}")
        model, runtime = self._build(side, dtype)
        seen = side.trace.observe(model, self._loss_fn(side), self.program.batches[0], runtime)
        expected = "float32" if dtype == "tf32" else dtype
        assert seen.dtype == expected, f"{side.name} computed in {seen.dtype}, not {expected}"
        return seen

    def _pass(self, dtype: str) -> Gate:
        torch, jax = self._on_both(lambda side: self.observe(side, dtype))
        self.say(f"{self.program.title}, {dtype}: judging every tensor")
        if self.keep:
            self.observed = {"torch": torch, "jax": jax}
        rows = list(_pairs(torch, jax, self.program.output_name))
        if dtype == "float64":
            self._oracle = torch
            third = self._by_hand()
            verdicts = [
                judge_float64(
                    row.name, row.kind, gaps(row.torch, row.jax, third.get(row.name)), scale
                )
                for row, scale in _with_scales(rows, rows)
            ]
        else:
            assert self._oracle is not None, "float64 is judged first"
            oracle = list(_pairs(self._oracle, self._oracle, self.program.output_name))
            verdicts = [
                judge_rounded(
                    row.name,
                    row.kind,
                    gaps(row.torch, row.jax, truth.torch),
                    scale,
                    dtype,
                    truth.torch.size,
                )
                for (row, scale), truth in zip(_with_scales(rows, oracle), oracle, strict=True)
            ]
        return Gate(name=dtype, tensors=verdicts)

    def _by_hand(self) -> Params:
        """The third reference's tensors, by the names that verdicts use."""
        if self.program.by_hand is None:
            return {}
        loss, output, gradients = self.program.by_hand(*self._wide_start())
        return {"loss": loss, self.program.output_name: output, **gradients}

    def _wide_start(self) -> tuple[Any, ...]:
        params = {name: value.astype(np.float64) for name, value in self.program.params.items()}
        return params, *(array.astype(np.float64) for array in self.program.batches[0])

    def _central_differences(self, dtype: str) -> Gate:
        assert self._oracle is not None
        assert self.program.by_hand is not None
        loss_by_hand = self.program.by_hand
        params, *batch = self._wide_start()
        numeric = by_hand.central_difference(
            lambda moved: float(loss_by_hand(moved, *batch)[0]), params
        )
        exact = self._oracle.gradients
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

    @property
    def _trained(self) -> Program:
        """The program whose parameters the optimizer gate moves."""
        return self.program.optimizer_part or self.program

    @cached_property
    def _gradients(self) -> Params:
        """The oracle's gradients of those parameters."""
        assert self._oracle is not None
        return {name: self._oracle.gradients[name] for name in self._trained.params}

    @cached_property
    def _factors(self) -> list[float]:
        """By what the program's own gradients are multiplied before each optimizer step.

        Some steps are then clipped and some not, and the sign changes.
        """
        norm = math.hypot(*(numerics.size(g).l2 for g in self._gradients.values()))
        return [(0.5, -3.0, 0.8, 2.0)[i % 4] / norm for i in range(self.program.optimizer_steps)]

    @cached_property
    def _norms(self) -> list[float]:
        """Joint norm of the injected gradients, step by step."""
        return [
            math.hypot(
                *(
                    numerics.size(_rounded(g[block], factor)).l2
                    for g in self._gradients.values()
                    for block in numerics.blocks(g.shape)
                )
            )
            for factor in self._factors
        ]

    def _injected(self) -> Iterator[Params]:
        """Gradients for the optimizer: the same numbers for both sides and in every dtype."""
        for factor in self._factors:
            yield {name: _rounded(g, factor) for name, g in self._gradients.items()}

    def _stepped(self, side: Framework, dtype: str, name: str) -> dict[int, Params]:
        """Parameters after the optimizer steps that are compared, by step, counted from 0."""
        self.say(f"{self.program.title}, {dtype}: {name} updates in {side.name}")
        model, runtime = self._build(side, dtype, self._trained)
        optimizer = side.optim.Optimizer(model, self.program.optimizers[name])
        last = self.program.optimizer_steps - 1
        # A large model is compared after its last step alone, for the memory that copies take.
        return {
            step: params if step == last else {key: value.copy() for key, value in params.items()}
            for step, params in enumerate(
                side.trace.stepped(model, optimizer, self._injected(), runtime)
            )
            if step == last or not self.program.is_large
        }

    def _optimizer(self, dtype: str) -> Gate:
        verdicts: list[Verdict] = []
        for name, config in self.program.optimizers.items():
            run = partial(self._stepped, dtype=dtype, name=name)
            torch, jax = self._on_both(run, together=not self.program.is_large)
            self.say(f"{self.program.title}, {dtype}: judging every {name} update")
            for key in self._trained.params:
                ours = {step: params[key] for step, params in torch.items()}
                theirs = {step: params[key] for step, params in jax.items()}
                verdicts += self._updates_of(key, name, config, ours, theirs, dtype)
        return Gate(name="optimizer", tensors=verdicts)

    def _updates_of(
        self,
        key: str,
        name: str,
        config: OptimizerConfig,
        torch: dict[int, np.ndarray],
        jax: dict[int, np.ndarray],
        dtype: str,
    ) -> Iterator[Verdict]:
        """One parameter's updates, step by step, against the optimizer written out by hand."""
        found: dict[int, tuple[Gaps, Size]] = {}
        for block in numerics.blocks(self.program.params[key].shape):
            for step, apart, scale in self._updates_in(block, key, config, torch, jax):
                if step in found:
                    apart, scale = apart.joined(found[step][0]), scale.joined(found[step][1])
                found[step] = apart, scale
        for step, (apart, scale) in found.items():
            label = f"{name}[{step}] {key}"
            if dtype == "float64":
                yield judge_float64(label, "update", apart, scale)
            else:
                elements = self.program.params[key].size
                yield judge_rounded(label, "update", apart, scale, dtype, elements)

    def _updates_in(
        self,
        block: Any,
        key: str,
        config: OptimizerConfig,
        torch: dict[int, np.ndarray],
        jax: dict[int, np.ndarray],
    ) -> Iterator[tuple[int, Gaps, Size]]:
        start = self.program.params[key][block]
        gradient = self._gradients[key][block]
        gradients = [_rounded(gradient, factor) for factor in self._factors]
        before = (start, start, start)
        by_step = by_hand.optimizer_steps(start, gradients, self._norms, config)
        for step, exact in enumerate(by_step):
            if step in torch:
                after = (torch[step][block], jax[step][block], exact)
                moved = [
                    np.asarray(np.subtract(new, old, dtype=np.float64))
                    for new, old in zip(after, before, strict=True)
                ]
                # An update is added to its parameter, and can be no finer than that one's grid.
                scale = numerics.size(moved[2]).at_least(numerics.size(start))
                yield step, gaps(*moved), scale
                before = after

    def _figures(self, side: Framework, dtype: str, params: Params | None = None) -> Figures:
        """What the training steps of one side report."""
        steps = len(self.program.batches)
        self.say(f"{self.program.title}, {dtype}: {steps} training steps in {side.name}")
        model, runtime = self._build(side, dtype, params=params)
        if self.program.training is not None:
            return self._by_trainer(side, model, runtime, dtype)
        config = self.program.optimizers[self.program.trajectory_optimizer]
        optimizer = side.optim.Optimizer(model, config)
        batches = (runtime.batch(*batch) for batch in self.program.batches)
        losses = side.train.train(model, optimizer, self._loss_fn(side), batches)
        return {"loss": side.params.to_numpy(losses).astype(np.float64)}

    def _by_trainer(self, side: Framework, model: Any, runtime: Any, dtype: str) -> Figures:
        """The same by GPT-2's own trainer: micro-batches, matched dropout, the loss in chunks.

        Halfway the trainer goes back to the start for one step, then on from what it exported.
        """
        assert self.program.training is not None
        config = replace(self.program.training, dtype=dtype)
        trainer = side.train.Trainer(model, config, runtime)
        start, batches = trainer.export(), self.program.batches
        figures = []
        for number, batch in enumerate(batches):
            if number == len(batches) // 2:
                halfway = trainer.export()
                trainer.restore(start)
                trainer.step(*divided(batches[0], config))
                trainer.restore(halfway)
            step = trainer.step(*divided(batch, config))
            figures.append((step.loss, step.grad_norm, float(trainer.evaluate(*batch))))
        return dict(zip(FIGURES, np.array(figures).T, strict=True))

    def _trajectory(self, dtype: str) -> Gate:
        torch, jax = self._on_both(lambda side: self._figures(side, dtype))
        if dtype == "float64":
            self._oracle_figures = torch
            relative = numerics.FLOAT64_TRAJECTORY_RELATIVE
            limit = relative / numerics.UNIT_ROUNDOFF[dtype]
            limits = {name: np.full(len(values), limit) for name, values in torch.items()}
        else:
            near = self._neighbours(dtype)
            limits = {
                name: numerics.envelope(values, np.stack([run[name] for run in near]), dtype)
                for name, values in torch.items()
            }
        runs = (torch, jax, self._oracle_figures, limits)
        verdicts = []
        for step in range(len(self.program.batches)):
            for name in torch:
                ours, theirs, truth, limit = (float(run[name][step]) for run in runs)
                label, kind = f"{name}[{step}]", FIGURES[name]
                verdict = numerics.judge_step(label, kind, ours, theirs, truth, limit, dtype)
                verdicts.append(verdict)
        return Gate(name="trajectory", tensors=verdicts)

    def _neighbours(self, dtype: str) -> list[Figures]:
        """The figures of one side's runs from starts one ulp away."""
        starts = [numerics.one_ulp_away(self._start(), seed) for seed in range(NEIGHBOURS)]
        return [self._figures(self.sides[0], dtype, start) for start in starts]

    def _start(self) -> Params:
        return {name: value.astype(np.float32) for name, value in self.program.params.items()}


@dataclass(frozen=True)
class Row:
    """One tensor of both sides."""

    name: str
    kind: str
    torch: np.ndarray
    jax: np.ndarray


ABSENT = np.full(0, np.nan)  # what a side shows for a tensor that it does not have


def _pairs(torch: Observation, jax: Observation, output_name: str) -> Iterator[Row]:
    """Every tensor in the order of computation: forward, loss, then backward."""
    forward = _union(torch.activations, jax.activations)
    for name in forward:
        values = (side.activations.get(name, ABSENT) for side in (torch, jax))
        yield Row(name, "activation", *values)
    yield Row(output_name, "activation", torch.output, jax.output)
    yield Row("loss", "loss", torch.loss, jax.loss)
    for name in reversed(forward):
        values = (side.activation_gradients.get(name, ABSENT) for side in (torch, jax))
        yield Row(f"{name}{OUTPUT}", "gradient", *values)
    for name in _union(torch.gradients, jax.gradients):
        values = (side.gradients.get(name, ABSENT) for side in (torch, jax))
        yield Row(name, "gradient", *values)


def _union(ours: Params, theirs: Params) -> list[str]:
    return [*ours, *(name for name in theirs if name not in ours)]


def _with_scales(rows: list[Row], oracle: list[Row]) -> Iterator[tuple[Row, Size]]:
    """Each row with what its error is relative to: gradients near zero are held against all."""
    noisy: dict[str, dict[str, np.ndarray]] = {"at": {}, "of": {}}
    for row in oracle:
        if row.kind == "gradient":
            noisy["at" if row.name.endswith(OUTPUT) else "of"][row.name] = row.torch
    shared = numerics.scales(noisy["at"]) | numerics.scales(noisy["of"])
    truth = {row.name: row.torch for row in oracle}
    for row in rows:
        yield row, shared.get(row.name) or numerics.size(truth[row.name])


def divided(batch: Batch, config: TrainConfig) -> Iterator[np.ndarray]:
    """The batch as the trainer takes it, in micro-batches."""
    return (array.reshape(config.micro_batches, -1, array.shape[-1]) for array in batch)


def _rounded(gradient: np.ndarray, factor: float) -> np.ndarray:
    """A scaled gradient in float32, which every dtype under test but 16-bit ones holds exactly."""
    rounded = np.empty(gradient.shape, np.float32)
    np.multiply(gradient, factor, out=rounded, dtype=np.float64, casting="same_kind")
    return rounded
