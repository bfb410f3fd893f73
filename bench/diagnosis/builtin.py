"""Diagnosis of the built-in programs: as pairs, then their optimizers and training runs."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench.diagnosis import training, trajectory
from bench.harness import terminal
from bench.harness.foreign import Array, LossFn, Model
from bench.harness.frameworks import Framework, Frameworks
from bench.harness.programs import Program
from shared.config import OptimizerConfig, TrainConfig
from shared.params import Params
from shared.train_state import counted, step_keys
from twingrad import numerics, torch_probe
from twingrad.calls import Pass
from twingrad.diagnosis import engine
from twingrad.diagnosis.finding import Cause, Finding
from twingrad.diagnosis.hypotheses import optimizer
from twingrad.exact import Say, Unrepeatable, silent
from twingrad.live import LivePair
from twingrad.pair import Pair
from twingrad.torch_subject import Subject


def pair_of(program: Program, both: Frameworks) -> Pair:
    """The program as a pair: both frameworks import the canonical parameters by their own code."""

    def make(framework: Framework) -> Model:
        # At the widest, from which it is rounded.
        return program.build(framework, framework.runtime.configure("float64", "cpu"))

    return _pair(program, both, make, program.loss_fn)


def training_pair_of(program: Program, config: TrainConfig, both: Frameworks) -> Pair:
    """The same as its trainer runs it: with matched dropout, and the loss in chunks."""
    count = counted(program.batches[0][1])

    def make(framework: Framework) -> Model:
        model = program.build(framework, framework.runtime.configure("float64", "cpu"))
        framework.dropout.match(model)
        sites = len(framework.dropout.sites(model))
        framework.set_dropout_keys(model, step_keys(config.seed, 0, 1, sites)[0])
        return model

    def loss_fn(framework: Framework) -> LossFn:
        summed_loss = framework.gpt2.summed_loss
        return lambda model, *batch: summed_loss(model, *batch, config.loss_chunk) / count

    pair = _pair(program, both, make, loss_fn)
    return replace(pair, train=True, name=f"{program.title} in training")


def _pair(
    program: Program,
    both: Frameworks,
    make: Callable[[Framework], Model],
    loss_fn: Callable[[Framework], LossFn],
) -> Pair:
    torch, jax = both
    return Pair(
        torch=partial(make, torch),
        jax=partial(make, jax),
        torch_loss=loss_fn(torch),
        jax_loss=loss_fn(jax),
        batch=program.batches[0],
        copy=False,
        name=program.title,
    )


def find(
    program: Program, both: Frameworks, say: Say = silent, every: bool = False
) -> list[Finding]:
    """Where the two models of a built-in program part, from the first module to the last step."""
    scales: engine.Scales = {}

    def more(live: LivePair, observed: Pass) -> Iterator[Finding]:
        dtype = live.dtype
        if program.training is not None and not program.is_large:
            pair = training_pair_of(program, program.training, both)
            findings = list(engine.stages(pair, dtype, say, every, None, scales))
            yield from findings
            if findings and not every:
                return
        findings = list(_updates(program, both, live, observed, say))
        yield from findings
        if dtype == "float64" and (every or not findings):
            yield from trajectory.diagnose(program, both, say)

    try:
        return engine.diagnose(pair_of(program, both), say, every, more)
    except Unrepeatable as error:
        where = engine.place_name(error.where)
        name = terminal.NAMES[error.framework]
        cause = Cause.statement(f"{name}'s draws at random: it is another one when it is run again")
        return [Finding(stage="forward", where=where, reason=cause, evidence=str(error))]


def _updates(
    program: Program, both: Frameworks, live: LivePair, observed: Pass, say: Say
) -> Iterator[Finding]:
    """Both frameworks' optimizers on the same gradients."""
    trained = program.optimizer_part or program
    assert isinstance(live.torch, Subject)
    exported = both[0].export_gradients(
        live.torch.model, torch_probe.tensors_of(observed.gradients)
    )
    raw = {name: exported[name] for name in trained.params}
    norm = math.hypot(*(numerics.size(g).l2 for g in raw.values())) or 1.0
    factors = itertools.islice(itertools.cycle(optimizer.FACTORS[:3]), program.optimizer_steps)
    gradients = [
        {name: np.asarray(g * (factor / norm), np.float32) for name, g in raw.items()}
        for factor in factors
    ]
    start = {name: np.asarray(value, np.float64) for name, value in trained.params.items()}
    for name, config in program.optimizers.items():
        say(f"{program.title}, {live.dtype}: {name} on the same gradients")
        torch, jax = (
            _stepped(framework, trained, config, gradients, live.dtype) for framework in both
        )
        runs = optimizer.Runs(start=start, gradients=gradients, torch=torch, jax=jax)
        rule = training.rule_of(config, len(gradients))
        if live.dtype == "float64":
            further = list(training.schedule_rules(rule, config))
            finding = optimizer.judge(runs, rule, further)
        else:
            finding = optimizer.judge_rounded(runs, rule)
        if finding:
            yield replace(finding, where=f"{name}, {finding.where}")


def _stepped(
    framework: Framework,
    program: Program,
    config: OptimizerConfig,
    gradients: list[Params],
    dtype: str,
) -> list[dict[str, Array]]:
    """Parameters after each optimizer step, in float64."""
    runtime = framework.runtime.configure(dtype, "cpu")
    model = program.build(framework, runtime)
    moves = framework.optim.Optimizer(model, config)
    after = framework.trace.stepped(model, moves, iter(gradients), runtime)
    return [{name: np.array(value, np.float64) for name, value in p.items()} for p in after]
