"""The comparison of one program: gate after gate, from the same start in both frameworks.

float64 comes first, one framework against the other. Where it holds, it is the oracle against which
lower precisions of both are judged. Then the optimizer under injected gradients, then a trajectory.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from bench.harness.training_steps import StepMetrics
from bench.parity import mixed_gate, optimizer_gate, pass_gate, trajectory_gate
from bench.parity.mixed_gate import References
from bench.parity.mixed_runs import MixedRun, TrainerPass
from bench.parity.optimizer_gate import InjectedGradients
from bench.parity.program_runs import LiveRuns, ProgramRuns, Say, in_both
from shared.config import OptimizerConfig
from shared.observation import Observation
from shared.params import Params
from twingrad.numerics import Verdict
from twingrad.outcome import Gate, Outcome, first_divergence

DTYPES = ("float64", "float32", "bfloat16", "tf32")


@dataclass(kw_only=True)
class Comparison:
    """One program in both frameworks; keeps the float64 results that later dtypes are judged by.

    ``say`` hears what is being done. ``last`` is the dtype in which a large model's optimizer is
    judged, once. With ``keep`` the last pair of observations stays in ``observed``. ``runs``
    computes what is judged; without it everything is computed on ``device``.
    """

    program: Program
    frameworks: Frameworks
    device: str
    say: Say = lambda text: None
    last: str = "float32"
    keep: bool = False
    runs: ProgramRuns | None = None
    observed: dict[str, Observation] = field(default_factory=dict)
    _oracle: Observation | None = None
    _metrics: dict[str, StepMetrics] = field(default_factory=dict)

    def run(self, dtype: str) -> Outcome:
        """Judge ``dtype``; float64 must have been run before any other. Stops at a failed gate."""
        program = self.program
        outcome = Outcome(
            program=program.name, preset=program.preset, dtype=dtype, device=self.device
        )
        started = time.perf_counter()
        for framework in self.frameworks:
            self._runs.load(framework)
        for judge in self._gates(dtype):
            gate = judge(dtype)
            if program.is_large:
                gc.collect()
            outcome.gates.append(gate)
            if not gate.ok:
                outcome.first_forward, outcome.first_backward = first_divergence(gate)
                break
        outcome.seconds = time.perf_counter() - started
        outcome.settings = {
            framework.name: self._runs.settings(framework) for framework in self.frameworks
        }
        return outcome

    def _gates(self, dtype: str) -> Iterator[Callable[[str], Gate]]:
        yield self._pass
        if dtype == "float64" and self.program.by_hand:
            yield self._central_differences
        if dtype == mixed_gate.NARROW and self.program.training is not None:
            yield from self._mixed_gates()
        if dtype in ("bfloat16", "tf32"):
            return  # what these add to float32 is the precision of the pass
        if not self.program.is_large or dtype == self.last:
            yield self._optimizer
        if len(self.program.batches) > 1:
            yield self._trajectory

    @cached_property
    def _runs(self) -> ProgramRuns:
        return self.runs or LiveRuns(program=self.program, device=self.device, say=self.say)

    @property
    def oracle(self) -> Observation:
        """The float64 pass by which the rest is judged; ``ValueError`` before there is one."""
        if self._oracle is None:
            raise ValueError("float64 is judged before anything else")
        return self._oracle

    def _pass(self, dtype: str) -> Gate:
        torch, jax = in_both(
            self.frameworks, lambda framework: self._runs.observe(framework, dtype)
        )
        self.say(f"{self.program.title}, {dtype}: judging every tensor")
        if self.keep:
            self.observed = {"torch": torch, "jax": jax}
        if dtype != "float64":
            return pass_gate.judge_against(self.oracle, self.program, dtype, torch, jax)
        self._oracle = self._runs.oracle(torch)
        return pass_gate.judge_frameworks(self.program, torch, jax)

    def _central_differences(self, dtype: str) -> Gate:
        by_hand = self.program.by_hand
        if by_hand is None:
            raise ValueError(f"{self.program.title} has no gradient by hand")
        return pass_gate.judge_central_differences(self.program, by_hand, self.oracle.gradients)

    @cached_property
    def _injected(self) -> InjectedGradients:
        return InjectedGradients(self.program, self.oracle.gradients)

    def _optimizer(self, dtype: str) -> Gate:
        verdicts: list[Verdict] = []
        injected = self._injected
        for name in self.program.optimizers:

            def updated(framework: Framework, name: str = name) -> dict[int, Params]:
                return self._runs.updated(framework, dtype, name, injected.by_step)

            together = not self.program.is_large
            torch, jax = in_both(self.frameworks, updated, together)
            self.say(f"{self.program.title}, {dtype}: judging every {name} update")
            verdicts += optimizer_gate.judge_updates(injected, name, torch, jax, dtype)
        return Gate(name="optimizer", tensors=verdicts)

    def _trajectory(self, dtype: str) -> Gate:
        torch, jax = in_both(self.frameworks, lambda framework: self._runs.train(framework, dtype))
        self._metrics[dtype] = torch
        if dtype == "float64":
            limits = trajectory_gate.float64_limits(torch)
        else:
            neighbours = self._runs.neighbours(self.frameworks[0], dtype)
            limits = trajectory_gate.envelope(torch, neighbours, dtype)
        runs = (torch, jax, self._metrics["float64"], limits)
        return trajectory_gate.judge_training(runs, len(self.program.batches), dtype)

    def _mixed_gates(self) -> Sequence[Callable[[str], Gate]]:
        """The gates of mixed precision; a large model's is that of the pass."""
        gates = [self._mixed_pass, self._mixed_update, self._mixed_trajectory]
        return gates[:1] if self.program.is_large else gates

    @cached_property
    def _mixed(self) -> tuple[MixedRun, MixedRun]:
        together = not self.program.is_large
        return in_both(
            self.frameworks,
            lambda framework: self._runs.mixed(framework, mixed_gate.NARROW),
            together,
        )

    def _mixed_pass(self, dtype: str) -> Gate:
        torch, jax = self._mixed
        first = self.frameworks[0]

        def exact(run: MixedRun, number: int) -> TrainerPass:
            return self._runs.trainer_pass(first, "float64", number, run.steps[number].before)

        references = References(
            first=in_both(
                self.frameworks,
                lambda framework: self._runs.trainer_pass(framework, "float64"),
                together=not self.program.is_large,
            ),
            steps=[
                (exact(torch, number), exact(jax, number)) for number in range(len(torch.steps))
            ],
        )
        self.say(f"{self.program.title}, {dtype}: judging passes in mixed precision")
        return mixed_gate.judge_passes(torch, jax, references, self._optimizer_config)

    @property
    def _optimizer_config(self) -> OptimizerConfig:
        return self.program.optimizers[self.program.trajectory_optimizer]

    def _mixed_update(self, dtype: str) -> Gate:
        return mixed_gate.judge_updates(*self._mixed, self._optimizer_config)

    def _mixed_trajectory(self, dtype: str) -> Gate:
        torch, jax = self._mixed
        master = mixed_gate.MASTER
        if master not in self._metrics:
            self._metrics[master] = self._runs.train(self.frameworks[0], master)
        wider = {name: self._metrics[name] for name in ("float64", master)}
        return mixed_gate.judge_trajectory(torch.metrics, jax.metrics, wider)
