"""The built-in programs, through the same door as anybody's pair, and on to their training."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench.diagnosis import training
from bench.harness import terminal
from bench.harness.foreign import Batch
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from bench.harness.training_steps import StepMetrics
from bench.parity import trajectory_gate
from bench.parity.program_runs import LiveRuns, in_both
from shared.config import AdamWConfig, TrainConfig
from shared.params import Params
from shared.train_state import TrainState, counted, step_keys
from twingrad import numerics
from twingrad.calls import Pass
from twingrad.diagnosis import engine
from twingrad.diagnosis.engine import Say, Unrepeatable
from twingrad.diagnosis.finding import Cause, Finding
from twingrad.diagnosis.hypotheses import optimizer
from twingrad.live import LivePair
from twingrad.outcome import Gate
from twingrad.pair import Pair


def pair_of(program: Program, sides: Frameworks) -> Pair:
    """The program as a pair: both sides import the canonical parameters by their own code."""

    def made(side: Framework) -> Any:
        # At the widest, from which it is rounded.
        runtime = side.runtime.configure("float64", "cpu")
        return program.build(side, runtime)

    def loss(side: Framework) -> Any:
        return program.loss_fn(side)

    return _pair(program, sides, made, loss)


def training_pair_of(program: Program, sides: Frameworks) -> Pair:
    """The same as its trainer runs it: with matched dropout, and the loss in chunks."""
    config = program.training
    assert config is not None
    count = counted(program.batches[0][1])

    def made(side: Framework) -> Any:
        runtime = side.runtime.configure("float64", "cpu")
        model = program.build(side, runtime)
        side.dropout.match(model)
        sites = len(side.dropout.sites(model))
        keys = step_keys(config.seed, 0, 1, sites)[0]
        side.set_dropout_keys(model, keys)
        return model

    def loss(side: Framework) -> Any:
        return lambda model, *batch: side.gpt2.summed_loss(model, *batch, config.loss_chunk) / count

    pair = _pair(program, sides, made, loss)
    return replace(pair, train=True, name=f"{program.title} in training")


def _pair(
    program: Program,
    sides: Frameworks,
    made: Callable[[Framework], Any],
    loss: Callable[[Framework], Any],
) -> Pair:
    torch, jax = sides
    return Pair(
        torch=partial(made, torch),
        jax=partial(made, jax),
        torch_loss=loss(torch),
        jax_loss=loss(jax),
        batch=program.batches[0],
        copy=False,
        name=program.title,
    )


def find(
    program: Program, sides: Frameworks, say: Say = engine.silent, every: bool = False
) -> list[Finding]:
    """Where the two sides of a built-in program part, from the first module to the last step."""
    scales: engine.Scales = {}

    def more(live: LivePair, seen: Pass) -> Iterator[Finding]:
        dtype = live.dtype
        if program.training is not None and not program.is_large:
            pair = training_pair_of(program, sides)
            found = list(engine.stages(pair, dtype, say, every, None, scales))
            yield from found
            if found and not every:
                return
        found = list(_updates(program, sides, live, seen, say))
        yield from found
        if dtype == "float64" and (every or not found):
            yield from _trajectory(program, sides, say)

    try:
        return engine.diagnose(pair_of(program, sides), say, every, more)
    except Unrepeatable as error:
        where = engine.place_name(error.where)
        name = terminal.NAMES[error.framework]
        cause = Cause.statement(f"{name}'s draws at random: it is another one when it is run again")
        return [Finding(stage="forward", where=where, reason=cause, evidence=str(error))]


def _updates(
    program: Program, sides: Frameworks, live: LivePair, seen: Pass, say: Say
) -> Iterator[Finding]:
    """Both frameworks' optimizers on the same gradients."""
    trained = program.optimizer_part or program
    raw = sides[0].export_gradients(live.torch, {n: _tensor(g) for n, g in seen.gradients.items()})
    raw = {name: raw[name] for name in trained.params}
    size = math.hypot(*(numerics.size(g).l2 for g in raw.values())) or 1.0
    factors = itertools.islice(itertools.cycle(optimizer.FACTORS), program.optimizer_steps)
    scales = [factor / size for factor in factors]
    gradients = [{n: np.asarray(g * s, np.float32) for n, g in raw.items()} for s in scales]
    start = {name: np.asarray(value, np.float64) for name, value in trained.params.items()}
    for name, config in program.optimizers.items():
        say(f"{program.title}, {live.dtype}: {name} on the same gradients")
        torch, jax = (_stepped(side, trained, config, gradients, live.dtype) for side in sides)
        runs = optimizer.Runs(start=start, gradients=gradients, torch=torch, jax=jax)
        rule = training.rule_of(config, len(gradients))
        if live.dtype == "float64":
            further = list(training.schedule_rules(rule, config))
            finding = optimizer.judge(runs, rule, further)
        else:
            finding = optimizer.judge_rounded(runs, rule)
        if finding:
            yield replace(finding, where=f"{name}, {finding.where}")


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def _stepped(
    side: Framework, program: Program, config: Any, gradients: list[Params], dtype: str
) -> list[Params]:
    runtime = side.runtime.configure(dtype, "cpu")
    model = program.build(side, runtime)
    moves = side.optim.Optimizer(model, config)
    after = side.trace.stepped(model, moves, iter(gradients), runtime)
    return [{name: np.array(value, np.float64) for name, value in p.items()} for p in after]


class TrainingRuns:
    """A program's training runs in float64, whose metrics are kept.

    ``straight`` leaves out the checkpoint on the way. ``shared`` names the frameworks whose
    exported checkpoint changed as training went on.
    """

    def __init__(
        self,
        program: Program,
        frameworks: Frameworks,
        say: Say = engine.silent,
        straight: bool = False,
    ):
        self.program, self.frameworks = program, frameworks
        self.metrics: dict[str, StepMetrics] = {}
        self.shared: list[str] = []
        detour = None if straight else self._detour
        self.live = LiveRuns(program=program, device="cpu", say=say, detour=detour)

    def gate(self) -> Gate:
        """The trajectory gate over one run of each framework."""
        torch, jax = in_both(self.frameworks, self.train)
        runs = (torch, jax, torch, trajectory_gate.float64_limits(torch))
        return trajectory_gate.judge_training(runs, len(self.program.batches), "float64")

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


def _trajectory(program: Program, sides: Frameworks, say: Say) -> Iterator[Finding]:
    """The first training step at which a figure leaves, and what has to be off for it to stay."""
    if len(program.batches) < 2:
        return
    runs = TrainingRuns(program, sides, say)
    gate = runs.gate()
    if gate.ok:
        return
    first = next(tensor for tensor in gate.tensors if not tensor.ok)
    figure, _, number = first.name.rstrip("]").partition("[")
    back = program.training is not None and int(number) == len(program.batches) // 2
    apart = first.mutual_error_u * numerics.UNIT_ROUNDOFF["float64"]
    yield Finding(
        stage="trajectory",
        where=f"{figure} of step {int(number) + 1}" + (", after going back" if back else ""),
        reason=_of_training(program, sides, runs, say),
        evidence=f"training steps from the same start: {first.name} is {apart:.3g} apart, relative",
    )


def _of_training(program: Program, sides: Frameworks, runs: TrainingRuns, say: Say) -> Cause | None:
    if runs.shared:
        names = " and ".join(terminal.NAMES[side] for side in runs.shared)
        own_memory = f"the checkpoint that {names} exports is its own memory"
        return Cause.statement(f"{own_memory}: training goes on in it")
    say(f"{program.title}: the training run by one recipe after the other")
    figures = (runs.metrics[side.name] for side in sides)
    return training.followed(program, sides[0], *figures) or _vanishes(program, sides, say)


def _vanishes(program: Program, sides: Frameworks, say: Say) -> Cause | None:
    """What the difference goes away without, one thing after the other."""
    for name, changed in _without(program):
        say(f"{program.title}: the training run again, without {name}")
        straight = name.startswith("going back")
        if TrainingRuns(changed, sides, straight=straight).gate().ok:
            return Cause.statement(f"the difference vanishes without {name}")
    return None


def _without(program: Program) -> Iterator[tuple[str, Program]]:
    """The program with one part of training switched off at a time."""
    if program.training is None:
        return
    config = program.config
    assert config is not None
    plain = replace(config, drop_rate=0.0)
    dry = replace(program, make=lambda side: side.make_gpt2(plain))
    yield "dropout", dry
    yield "going back to a checkpoint", program
    yield "chunks of the loss", _trained(program, loss_chunk=0)
    yield "micro-batches", _trained(program, micro_batches=1)
    answered: list[Batch] = [
        (inputs, np.maximum(targets, 0)) for inputs, targets in program.batches
    ]
    yield "ignored targets", replace(program, batches=answered)
    adamw = program.training.optimizer
    yield "clipping", _optimized(program, replace(adamw, max_grad_norm=1e9))
    yield "weight decay", _optimized(program, replace(adamw, weight_decay=0.0))
    flat = replace(adamw, warmup_steps=0, min_learning_rate=adamw.learning_rate)
    yield "a schedule", _optimized(program, flat)


def _trained(program: Program, **changed: Any) -> Program:
    assert isinstance(program.training, TrainConfig)
    return replace(program, training=replace(program.training, **changed))


def _optimized(program: Program, adamw: AdamWConfig) -> Program:
    return _trained(program, optimizer=adamw)
