"""The built-in programs, through the same door as anybody's pair, and on to their training."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench import programs
from bench.compare import Comparison, Figures, Gate
from bench.diagnosis import engine, updates
from bench.diagnosis.engine import Finding, Say
from bench.diagnosis.pairs import Pair
from bench.diagnosis.replays import Both, Replay
from bench.programs import Program
from bench.sides import Side, Sides
from shared.config import AdamWConfig, TrainConfig
from shared.params import Params


def pair_of(program: Program, sides: Sides) -> Pair:
    """The program as a pair: both sides import the canonical parameters by their own code."""

    def made(side: Side) -> Any:
        # At the widest, from which it is rounded.
        runtime = side.runtime.configure("float64", "cpu")
        return side.params.build(lambda: program.make(side), program.params, runtime)

    def loss(side: Side) -> Any:
        return getattr(side, program.module).loss_fn

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
    program: Program, sides: Sides, say: Say = engine.silent, every: bool = False
) -> list[Finding]:
    """Where the two sides of a built-in program part, from the first module to the last step."""

    def more(both: Both, replay: Replay) -> Iterable[Finding]:
        found = list(_updates(program, sides, both, replay, say))
        return found or _trajectory(program, sides, say)

    return engine.diagnose(pair_of(program, sides), say, every, more)


def _updates(
    program: Program, sides: Sides, both: Both, replay: Replay, say: Say
) -> Iterator[Finding]:
    """Both sides' optimizers on the same gradients."""
    trained = program.optimizer_part or program
    raw = sides[0].params.export_tensors(
        both.torch, {n: _tensor(g) for n, g in replay.seen.gradients.items()}
    )
    raw = {name: raw[name] for name in trained.params}
    size = float(np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in raw.values()))) or 1.0
    steps = updates.FACTORS[: max(2, min(3, program.optimizer_steps))]
    gradients = [{n: np.asarray(g * (f / size), np.float32) for n, g in raw.items()} for f in steps]
    start = {name: np.asarray(value, np.float64) for name, value in trained.params.items()}
    for name, config in program.optimizers.items():
        say(f"{program.title}: {name} on the same gradients")
        ours, theirs = (_stepped(side, trained, config, gradients) for side in sides)
        rule = updates.of_config(config, len(gradients))
        found = updates.judge(start, gradients, ours, theirs, rule, config)
        if found:
            yield replace(found, where=f"{name}, {found.where}")


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def _stepped(side: Side, program: Program, config: Any, gradients: list[Params]) -> list[Params]:
    runtime = side.runtime.configure("float64", "cpu")
    model = side.params.build(lambda: program.make(side), program.params, runtime)
    optimizer = side.optim.Optimizer(model, config)
    after = side.trace.stepped(model, optimizer, iter(gradients), runtime)
    return [{name: np.array(value) for name, value in params.items()} for params in after]


class _Run(Comparison):
    """A comparison of training runs alone; ``straight`` leaves out the stop on the way."""

    straight = False

    def gate(self) -> Gate:
        """The float64 trajectory judged."""
        return self._trajectory("float64")

    def _by_trainer(self, side: Side, model: Any, runtime: Any, dtype: str) -> Figures:
        if not self.straight:
            return super()._by_trainer(side, model, runtime, dtype)
        assert self.program.training is not None
        config = replace(self.program.training, dtype=dtype)
        trainer = side.train.Trainer(model, config, runtime)
        figures = []
        for batch in self.program.batches:
            parts = (a.reshape(config.micro_batches, -1, a.shape[-1]) for a in batch)
            step = trainer.step(*parts)
            figures.append((step.loss, step.grad_norm, float(trainer.evaluate(*batch))))
        return dict(zip(("loss", "grad_norm", "val_loss"), np.array(figures).T, strict=True))


def _trajectory(program: Program, sides: Sides, say: Say) -> Iterator[Finding]:
    """The first training step at which a figure leaves, and what has to be off for it to stay."""
    if len(program.batches) < 2:
        return
    gate = _Run(program=program, sides=sides, device="cpu", say=say).gate()
    if gate.ok:
        return
    first = next(tensor for tensor in gate.tensors if not tensor.ok)
    step = first.name.partition("[")[2].rstrip("]")
    apart = first.mutual_error_u * 2.0**-53
    yield Finding(
        stage="trajectory",
        where=f"{first.name.partition('[')[0]} of step {int(step) + 1}",
        cause=_vanishes(program, sides, say),
        evidence=f"training steps from the same start: {first.name} is {apart:.3g} apart, relative",
    )


def _vanishes(program: Program, sides: Sides, say: Say) -> str | None:
    """What the difference goes away without, one thing after the other."""
    for name, changed in _without(program):
        say(f"{program.title}: the training run again, without {name}")
        run = _Run(program=changed, sides=sides, device="cpu")
        run.straight = name.startswith("going back")
        if run.gate().ok:
            return f"the difference vanishes without {name}"
    return None


def _without(program: Program) -> Iterator[tuple[str, Program]]:
    """The program with one part of training switched off at a time."""
    if program.training is None:
        return
    config = program.config
    assert config is not None
    plain = replace(config, drop_rate=0.0)
    dry = replace(program, make=lambda side: programs.gpt2_model(side, plain))
    yield "dropout", dry
    yield "going back to a checkpoint", program
    yield "chunks of the loss", _trained(program, loss_chunk=0)
    yield "micro-batches", _trained(program, micro_batches=1)
    counted: list[programs.Batch] = [
        (inputs, np.maximum(targets, 0)) for inputs, targets in program.batches
    ]
    yield "ignored targets", replace(program, batches=counted)
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
