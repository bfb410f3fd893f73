"""Diagnosis of training runs: the first step whose metrics differ, and why."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.diagnosis import training
from bench.harness import terminal
from bench.harness.foreign import Batch
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from bench.harness.training_steps import StepMetrics
from bench.parity import trajectory_gate
from bench.parity.program_runs import LiveRuns, in_both
from shared.config import GPTConfig, TrainConfig
from shared.train_state import TrainState
from twingrad import numerics
from twingrad.diagnosis.finding import Cause, Finding
from twingrad.exact import Say, silent


class TrainingRuns:
    """A program's training runs in float64, whose metrics are kept.

    ``straight`` leaves out the checkpoint on the way. ``shared`` names the frameworks whose
    exported checkpoint changed as training went on.
    """

    def __init__(
        self,
        program: Program,
        frameworks: Frameworks,
        say: Say = silent,
        straight: bool = False,
    ):
        self.program, self.frameworks = program, frameworks
        self.metrics: dict[str, StepMetrics] = {}
        self.shared: list[str] = []
        detour = None if straight else self._detour
        self.live = LiveRuns(program=program, device="cpu", say=say, detour=detour)

    def first_difference(self) -> "StepDifference | None":
        """The first metric that differs between one run of each framework."""
        torch, jax = in_both(self.frameworks, self.train)
        runs = (torch, jax, torch, trajectory_gate.float64_limits(torch))
        steps = len(self.program.batches)
        verdicts = trajectory_gate.judge_training(runs, steps, "float64").tensors
        labels = ((metric, step) for step in range(steps) for metric in torch)
        for (metric, step), verdict in zip(labels, verdicts, strict=True):
            if not verdict.ok:
                apart = verdict.mutual_error_u * numerics.UNIT_ROUNDOFF["float64"]
                return StepDifference(metric, step, apart)
        return None

    def train(self, framework: Framework) -> StepMetrics:
        """The metrics of one framework's run."""
        self.metrics[framework.name] = self.live.train(framework, "float64")
        return self.metrics[framework.name]

    def _detour(
        self, framework: Framework, halfway: TrainState, step: Callable[[], object]
    ) -> None:
        before = copy.deepcopy(halfway)
        step()
        if any(not np.array_equal(x, before.params[name]) for name, x in halfway.params.items()):
            self.shared.append(framework.name)


@dataclass(frozen=True)
class StepDifference:
    """A metric of one training step, counted from 0, and its relative difference."""

    metric: str
    step: int
    apart: float


def diagnose(program: Program, both: Frameworks, say: Say) -> Iterator[Finding]:
    """The first training step at which a metric differs, and its cause."""
    if len(program.batches) < 2:
        return
    runs = TrainingRuns(program, both, say)
    first = runs.first_difference()
    if first is None:
        return
    back = program.training is not None and first.step == len(program.batches) // 2
    where = f"{first.metric} of step {first.step + 1}" + (", after going back" if back else "")
    yield Finding(
        stage="trajectory",
        where=where,
        reason=_cause(program, both, runs, say),
        evidence=f"training steps from the same start: {first.metric}[{first.step}] is "
        f"{first.apart:.3g} apart, relative",
    )


def _cause(program: Program, both: Frameworks, runs: TrainingRuns, say: Say) -> Cause | None:
    if runs.shared:
        names = " and ".join(terminal.NAMES[name] for name in runs.shared)
        own_memory = f"the checkpoint that {names} exports is its own memory"
        return Cause.statement(f"{own_memory}: training goes on in it")
    say(f"{program.title}: the training run by one recipe after the other")
    torch, jax = (runs.metrics[framework.name] for framework in both)
    return training.followed(program, both[0], torch, jax) or _vanishes(program, both, say)


def _vanishes(program: Program, both: Frameworks, say: Say) -> Cause | None:
    """The part of training without which the difference vanishes."""
    for trial in _without(program):
        say(f"{program.title}: the training run again, without {trial.part}")
        runs = TrainingRuns(trial.program, both, straight=trial.straight)
        if runs.first_difference() is None:
            return Cause.statement(f"the difference vanishes without {trial.part}")
    return None


@dataclass(frozen=True)
class _Trial:
    """The program with one part of training switched off, or without a checkpoint on the way."""

    part: str
    program: Program
    straight: bool = False


def _without(program: Program) -> Iterator[_Trial]:
    """The program with one part of training switched off at a time."""
    config, run = program.config, program.training
    if run is None or config is None:
        return
    yield _Trial("dropout", _dry(program, config))
    yield _Trial("going back to a checkpoint", program, straight=True)
    yield _Trial("chunks of the loss", _trained(program, replace(run, loss_chunk=0)))
    yield _Trial("micro-batches", _trained(program, replace(run, micro_batches=1)))
    answered: list[Batch] = [
        (inputs, np.maximum(targets, 0)) for inputs, targets in program.batches
    ]
    yield _Trial("ignored targets", replace(program, batches=answered))
    adamw = run.optimizer
    optimizers = {
        "clipping": replace(adamw, max_grad_norm=1e9),
        "weight decay": replace(adamw, weight_decay=0.0),
        "a schedule": replace(adamw, warmup_steps=0, min_learning_rate=adamw.learning_rate),
    }
    for part, optimizer in optimizers.items():
        yield _Trial(part, _trained(program, replace(run, optimizer=optimizer)))


def _dry(program: Program, config: GPTConfig) -> Program:
    without_dropout = replace(config, drop_rate=0.0)
    return replace(program, make=lambda framework: framework.make_gpt2(without_dropout))


def _trained(program: Program, config: TrainConfig) -> Program:
    return replace(program, training=config)
