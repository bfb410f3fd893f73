"""A program's passes, updates and training steps in one framework, which the gates judge."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from bench.harness.foreign import Batch, Model
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from bench.harness.training_steps import STEP_METRICS, StepMetrics, steps_with_detour
from bench.harness.twin_modules import Runtime, Trainer
from bench.parity import mixed_runs
from bench.parity.mixed_runs import RECORDED, MixedRun, MixedRuns, TrainerPass, TrainerStep, divided
from shared.config import TrainConfig
from shared.observation import Observation
from shared.params import Params
from shared.train_state import TrainState
from twingrad import numerics

NEIGHBOURS = 4  # runs from starts one ulp away, which calibrate the trajectory's envelope

T = TypeVar("T")
Say = Callable[[str], None]


class UnexpectedDtype(RuntimeError):
    """A framework computed in another dtype than the one it was configured for."""


class ProgramRuns(MixedRuns, Protocol):
    """Computes what the gates judge of one program."""

    def load(self, framework: Framework) -> None:
        """Import what the program needs of ``framework``."""

    def settings(self, framework: Framework) -> dict[str, str]:
        """The switches that ``framework`` was last configured to, as it reports them."""

    def observe(self, framework: Framework, dtype: str) -> Observation:
        """One forward and backward pass."""

    def oracle(self, observed: Observation) -> Observation:
        """The float64 pass by which lower precisions are judged; ``observed`` is PyTorch's."""

    def updated(
        self,
        framework: Framework,
        dtype: str,
        optimizer: str,
        gradients: Callable[[], Iterator[Params]],
    ) -> dict[int, Params]:
        """Parameters after the optimizer steps that are compared, by step, counted from 0."""

    def train(self, framework: Framework, dtype: str) -> StepMetrics:
        """The metrics of the training steps."""

    def neighbours(self, framework: Framework, dtype: str) -> list[StepMetrics]:
        """The metrics of runs from starts one ulp away."""


# What happens halfway through a training run, from its start, before it goes on from the checkpoint
# of halfway: the framework, that checkpoint, and a step on the first batch.
Detour = Callable[[Framework, TrainState, Callable[[], object]], object]


def one_step(framework: Framework, halfway: TrainState, step: Callable[[], object]) -> None:
    """Train one step, of which no trace may be left once ``halfway`` is restored."""
    step()


@dataclass(frozen=True, kw_only=True)
class LiveRuns:
    """Computes everything anew on ``device``; ``say`` hears what is being done.

    ``detour`` is taken halfway by GPT-2's trainer; without one it trains straight on.
    """

    program: Program
    device: str
    say: Say = lambda text: None
    detour: Detour | None = one_step

    def _build(
        self, framework: Framework, dtype: str, program: Program, start: Params | None = None
    ) -> tuple[Model, Runtime]:
        runtime = framework.runtime.configure(dtype, self.device)
        model = program.build(framework, runtime, start)
        model.eval()
        return model, runtime

    def load(self, framework: Framework) -> None:
        """Import what the program needs of ``framework``.

        Imports left to the runs would be parsed in two threads, which Python 3.11 cannot do.
        """
        self.program.loss_fn(framework)
        for name in ("params", "runtime", "trace", "optim", "train"):
            getattr(framework, name)

    def settings(self, framework: Framework) -> dict[str, str]:
        """The framework's switches."""
        return framework.runtime.settings()

    def observe(self, framework: Framework, dtype: str) -> Observation:
        """One forward and backward pass; raises ``UnexpectedDtype``."""
        program = self.program
        self.say(said(program, framework, dtype, "forward and backward"))
        model, runtime = self._build(framework, dtype, program)
        loss_fn = program.loss_fn(framework)
        observed = framework.trace.observe(model, loss_fn, program.batches[0], runtime)
        expected = "float32" if dtype == "tf32" else dtype
        if observed.dtype != expected:
            raise UnexpectedDtype(f"{framework.name} computed in {observed.dtype}, not {expected}")
        return observed

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
        """Parameters after the optimizer steps; of a large model after the last step alone."""
        program = self.program
        self.say(said(program, framework, dtype, f"{optimizer} updates"))
        model, runtime = self._build(framework, dtype, program.optimizer_part or program)
        moves = framework.optim.Optimizer(model, program.optimizers[optimizer])
        last = program.optimizer_steps - 1
        stepped = framework.trace.stepped(model, moves, gradients(), runtime)
        # A large model's earlier steps would need memory for their copies.
        return {
            step: params if step == last else {key: value.copy() for key, value in params.items()}
            for step, params in enumerate(stepped)
            if step == last or not program.is_large
        }

    def train(self, framework: Framework, dtype: str, start: Params | None = None) -> StepMetrics:
        """The metrics of the training steps, from ``start`` where it is given."""
        program = self.program
        self.say(said(program, framework, dtype, f"{len(program.batches)} training steps"))
        if program.training is not None:
            trainer, config = self._trainer(framework, dtype, start)
            return self._by_trainer(framework, trainer, config)
        model, runtime = self._build(framework, dtype, program, start)
        optimizer_config = program.optimizers[program.trajectory_optimizer]
        optimizer = framework.optim.Optimizer(model, optimizer_config)
        batches = (runtime.batch(*batch) for batch in program.batches)
        losses = framework.train.train(model, optimizer, program.loss_fn(framework), batches)
        return {"loss": framework.params.to_numpy(losses).astype(np.float64)}

    def _trainer(
        self,
        framework: Framework,
        dtype: str,
        start: Params | None = None,
        chunk: int | None = None,
    ) -> tuple[Trainer, TrainConfig]:
        """GPT-2's own trainer: micro-batches, matched dropout, the loss in chunks."""
        if self.program.training is None:
            raise ValueError(f"{self.program.title} has no trainer")
        config = replace(self.program.training, dtype=dtype)
        if chunk is not None:
            config = replace(config, loss_chunk=chunk)
        runtime = framework.runtime.configure(dtype, self.device)
        model = self.program.build(framework, runtime.master, start)
        return framework.train.Trainer(model, config, runtime), config

    def _by_trainer(
        self,
        framework: Framework,
        trainer: Trainer,
        config: TrainConfig,
        recorded: list[TrainerStep] | None = None,
    ) -> StepMetrics:
        """The metrics of the trainer's steps; ``recorded`` is given the first ``RECORDED``."""
        batches = self.program.batches

        def step(batch: Batch) -> tuple[float, float, float]:
            if recorded is None or len(recorded) == RECORDED:
                taken = trainer.step(*divided(batch, config))
                loss, norm = taken.loss, taken.grad_norm
            else:
                recorded.append(mixed_runs.one_step(trainer, batch, config))
                loss, norm = recorded[-1].loss, recorded[-1].grad_norm
            return loss, norm, float(trainer.evaluate(*batch))

        def detoured(halfway: TrainState) -> None:
            if self.detour is not None:
                self.detour(framework, halfway, lambda: trainer.step(*divided(batches[0], config)))

        rows = (
            map(step, batches)
            if self.detour is None
            else steps_with_detour(trainer, batches, step, detoured)
        )
        return dict(zip(STEP_METRICS, np.array(list(rows)).T, strict=True))

    def mixed(self, framework: Framework, dtype: str) -> MixedRun:
        """A training run by GPT-2's own trainer, its first steps recorded."""
        program = self.program
        self.say(said(program, framework, dtype, "training in mixed precision"))
        batch = program.batches[0]
        if program.is_large:
            return MixedRun(alone=self.trainer_pass(framework, dtype))
        at_once, its_config = self._trainer(framework, dtype, chunk=0)
        alone = mixed_runs.one_pass(framework, at_once, batch, its_config)
        trainer, config = self._trainer(framework, dtype)
        parts = tuple(mixed_runs.by_micro_batch(trainer, batch, config))
        steps: list[TrainerStep] = []
        metrics = self._by_trainer(framework, trainer, config, steps)
        return MixedRun(alone=alone, parts=parts, steps=tuple(steps), metrics=metrics)

    def trainer_pass(
        self, framework: Framework, dtype: str, number: int = 0, state: TrainState | None = None
    ) -> TrainerPass:
        """The pass of batch ``number`` at ``state``, or at the start."""
        self.say(said(self.program, framework, dtype, "a training step's pass"))
        trainer, config = self._trainer(framework, dtype)
        if state is not None:
            trainer.restore(state)
        return mixed_runs.one_pass(framework, trainer, self.program.batches[number], config)

    def neighbours(self, framework: Framework, dtype: str) -> list[StepMetrics]:
        """The metrics of runs from starts one ulp away."""
        start = {name: value.astype(np.float32) for name, value in self.program.params.items()}
        starts = [numerics.one_ulp_away(start, seed) for seed in range(NEIGHBOURS)]
        return [self.train(framework, dtype, moved) for moved in starts]


def in_both(
    frameworks: Frameworks, run: Callable[[Framework], T], together: bool = True
) -> tuple[T, T]:
    """``run`` in both frameworks, at once where memory allows: one computes, one compiles."""
    with ThreadPoolExecutor(max_workers=2 if together else 1) as pool:
        torch, jax = pool.map(run, frameworks)
    return torch, jax


def said(program: Program, framework: Framework, dtype: str, stage: str) -> str:
    """A stage of a program's runs in one framework; JAX compiles before it runs anything."""
    where = "in JAX, compiling first" if framework.name == "jax" else "in PyTorch"
    return f"{program.title}, {dtype}: {stage} {where}"
