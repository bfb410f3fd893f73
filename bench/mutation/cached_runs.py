"""Runs of a program with a bug in one framework: the other framework's are computed once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from bench.harness.frameworks import NAMES, Framework
from bench.harness.training_steps import StepMetrics
from bench.parity.mixed_runs import MixedRun, TrainerPass
from bench.parity.program_runs import LiveRuns
from shared.observation import Observation
from shared.params import Params
from shared.train_state import TrainState

# The runs that execute nothing of these files. Were one named wrongly, its bugs would be missed.
UNTOUCHED = {
    "optim.py": ("pass",),
    "train.py": ("pass", "optimizer"),
    "dropout.py": ("pass", "optimizer"),
}

T = TypeVar("T")
Key = tuple[str, ...]  # the framework, the kind of run, the dtype, and what else tells runs apart


@dataclass(frozen=True)
class CleanResults:
    """Runs of one program without any bug, as far as they have been computed."""

    passes: dict[Key, Observation] = field(default_factory=dict)
    updates: dict[Key, dict[int, Params]] = field(default_factory=dict)
    metrics: dict[Key, StepMetrics] = field(default_factory=dict)
    neighbours: dict[Key, list[StepMetrics]] = field(default_factory=dict)
    mixed: dict[Key, MixedRun] = field(default_factory=dict)
    starts: dict[Key, TrainerPass] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CachedRuns:
    """Computes by ``live`` in the framework with a bug in ``file``, the rest once for all bugs.

    In that framework too, nothing is computed anew that executes nothing of ``file``.
    """

    live: LiveRuns
    clean: CleanResults
    planted: str | None = None
    file: str = ""

    def load(self, framework: Framework) -> None:
        """Import what the program needs of ``framework``."""
        self.live.load(framework)

    def settings(self, framework: Framework) -> dict[str, str]:
        """The framework's switches."""
        return self.live.settings(framework)

    def observe(self, framework: Framework, dtype: str) -> Observation:
        """One forward and backward pass."""
        key = (framework.name, "pass", dtype)
        return self._once(self.clean.passes, key, lambda: self.live.observe(framework, dtype))

    def oracle(self, observed: Observation) -> Observation:
        """PyTorch's float64 pass without a bug.

        Once float64 holds, a pass with a bug would do as well, but the gradients injected into the
        optimizers without a bug were made of this one.
        """
        return self.clean.passes.get((NAMES[0], "pass", "float64"), observed)

    def updated(
        self,
        framework: Framework,
        dtype: str,
        optimizer: str,
        gradients: Callable[[], Iterator[Params]],
    ) -> dict[int, Params]:
        """Parameters after the optimizer's steps."""
        key = (framework.name, "optimizer", dtype, optimizer)
        return self._once(
            self.clean.updates,
            key,
            lambda: self.live.updated(framework, dtype, optimizer, gradients),
        )

    def train(self, framework: Framework, dtype: str) -> StepMetrics:
        """The metrics of the training steps."""
        key = (framework.name, "trajectory", dtype)
        return self._once(self.clean.metrics, key, lambda: self.live.train(framework, dtype))

    def neighbours(self, framework: Framework, dtype: str) -> list[StepMetrics]:
        """The metrics of runs from starts one ulp away."""
        key = (framework.name, "neighbours", dtype)
        return self._once(
            self.clean.neighbours, key, lambda: self.live.neighbours(framework, dtype)
        )

    def mixed(self, framework: Framework, dtype: str) -> MixedRun:
        """A training run in mixed precision."""
        key = (framework.name, "mixed", dtype)
        return self._once(self.clean.mixed, key, lambda: self.live.mixed(framework, dtype))

    def trainer_pass(
        self, framework: Framework, dtype: str, number: int = 0, state: TrainState | None = None
    ) -> TrainerPass:
        """The pass of batch ``number`` at the start, or at ``state``: that one always anew."""
        if state is not None:
            return self.live.trainer_pass(framework, dtype, number, state)
        key = (framework.name, "trainer pass", dtype, str(number))
        return self._once(
            self.clean.starts, key, lambda: self.live.trainer_pass(framework, dtype, number)
        )

    def _once(self, known: dict[Key, T], key: Key, compute: Callable[[], T]) -> T:
        framework, kind, *_ = key
        if framework == self.planted and kind not in UNTOUCHED.get(self.file, ()):
            return compute()
        if key not in known:
            known[key] = compute()
        return known[key]
