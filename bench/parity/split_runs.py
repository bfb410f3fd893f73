"""Runs of a program whose frameworks may be in different processes."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.harness.frameworks import Framework
from bench.harness.programs import Program
from bench.harness.training_steps import StepMetrics
from bench.parity.mixed_runs import MixedRun, TrainerPass
from bench.parity.places import Place
from bench.parity.program_runs import LiveRuns, Say, said
from shared.observation import Observation
from shared.params import Params
from shared.train_state import TrainState


@dataclass(frozen=True, kw_only=True)
class SplitRuns:
    """Computes each framework's runs where ``place`` has that framework; see ``prepare``."""

    program: Program
    place: Place
    say: Say

    def load(self, framework: Framework) -> None:
        """Nothing: ``prepare`` has loaded it."""

    def settings(self, framework: Framework) -> dict[str, str]:
        """The framework's switches."""
        return self.place.call(framework, _settings)

    def observe(self, framework: Framework, dtype: str) -> Observation:
        """One forward and backward pass."""
        self.say(said(self.program, framework, dtype, "forward and backward"))
        return self.place.call(framework, _observe, dtype)

    def oracle(self, observed: Observation) -> Observation:
        """PyTorch's own pass: the float64 gate holds it against JAX's."""
        return observed

    def updated(
        self,
        framework: Framework,
        dtype: str,
        optimizer: str,
        gradients: Callable[[], Iterator[Params]],
    ) -> dict[int, Params]:
        """Parameters after the optimizer steps."""
        self.say(said(self.program, framework, dtype, f"{optimizer} updates"))
        return self.place.call(framework, _updated, dtype, optimizer, list(gradients()))

    def train(self, framework: Framework, dtype: str) -> StepMetrics:
        """The metrics of the training steps."""
        stage = f"{len(self.program.batches)} training steps"
        self.say(said(self.program, framework, dtype, stage))
        return self.place.call(framework, _train, dtype)

    def neighbours(self, framework: Framework, dtype: str) -> list[StepMetrics]:
        """The metrics of runs from starts one ulp away."""
        return self.place.call(framework, _neighbours, dtype)

    def mixed(self, framework: Framework, dtype: str) -> MixedRun:
        """A training run in mixed precision."""
        self.say(said(self.program, framework, dtype, "training in mixed precision"))
        return self.place.call(framework, _mixed, dtype)

    def trainer_pass(
        self, framework: Framework, dtype: str, number: int = 0, state: TrainState | None = None
    ) -> TrainerPass:
        """The pass of batch ``number`` at ``state``, or at the start."""
        self.say(said(self.program, framework, dtype, "a training step's pass"))
        return self.place.call(framework, _trainer_pass, dtype, number, state)


_RUNS: dict[str, LiveRuns] = {}  # of each framework that is in this process


def prepare(framework: Framework, make: Callable[[], Program], device: str) -> None:
    """Load what a program needs of ``framework`` into its process, for the runs to come."""
    runs = LiveRuns(program=make(), device=device)
    runs.load(framework)
    gc.freeze()  # collections pass over what the framework has loaded
    _RUNS[framework.name] = runs


def _settings(framework: Framework) -> dict[str, str]:
    return framework.runtime.settings()


def _observe(framework: Framework, dtype: str) -> Observation:
    return _RUNS[framework.name].observe(framework, dtype)


def _updated(
    framework: Framework, dtype: str, optimizer: str, gradients: list[Params]
) -> dict[int, Params]:
    return _RUNS[framework.name].updated(framework, dtype, optimizer, lambda: iter(gradients))


def _train(framework: Framework, dtype: str) -> StepMetrics:
    return _RUNS[framework.name].train(framework, dtype)


def _neighbours(framework: Framework, dtype: str) -> list[StepMetrics]:
    return _RUNS[framework.name].neighbours(framework, dtype)


def _mixed(framework: Framework, dtype: str) -> MixedRun:
    return _RUNS[framework.name].mixed(framework, dtype)


def _trainer_pass(
    framework: Framework, dtype: str, number: int, state: TrainState | None
) -> TrainerPass:
    return _RUNS[framework.name].trainer_pass(framework, dtype, number, state)
