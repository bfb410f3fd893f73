"""A GPT-2 trained in mixed precision, step by step: what its gates judge."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bench.harness.foreign import Array, Batch
from bench.harness.frameworks import Framework
from bench.harness.training_steps import StepMetrics
from bench.harness.twin_modules import Trainer
from shared.config import IGNORED, TrainConfig
from shared.params import Params
from shared.train_state import TrainState

RECORDED = 6  # steps of a run whose gradients and states are kept


@dataclass(frozen=True)
class TrainerPass:
    """The loss of one batch by a trainer, and its gradients as the optimizer takes them."""

    loss: Array
    gradients: Params


@dataclass(frozen=True)
class TrainerStep:
    """One training step: what it returned, and the state around it."""

    loss: float
    grad_norm: float
    before: TrainState
    after: TrainState


@dataclass(frozen=True, kw_only=True)
class MixedRun:
    """A training run in mixed precision.

    ``steps`` are the first ``RECORDED``. ``parts`` are first steps with all targets counted: of all
    micro-batches, then of one each. ``alone`` is the pass of the first batch with all logits in
    memory at once; or, of a large model, for which there is nothing else, as it is trained.
    """

    alone: TrainerPass
    parts: tuple[TrainerStep, ...] = ()
    steps: tuple[TrainerStep, ...] = ()
    metrics: StepMetrics = field(default_factory=dict)


class MixedRuns(Protocol):
    """Computes what the gates of mixed precision judge of one program."""

    def mixed(self, framework: Framework, dtype: str) -> MixedRun:
        """A training run."""

    def trainer_pass(
        self, framework: Framework, dtype: str, number: int = 0, state: TrainState | None = None
    ) -> TrainerPass:
        """The pass of batch ``number`` at ``state``, or at the start."""


def one_pass(
    framework: Framework, trainer: Trainer, batch: Batch, config: TrainConfig
) -> TrainerPass:
    """The pass of ``batch`` that a step of ``trainer`` would begin with."""
    loss, gradients = framework.trainer_gradients(trainer, *divided(batch, config))
    # Copies: the framework may write the next pass over these.
    return TrainerPass(np.asarray(loss), {name: g.copy() for name, g in gradients.items()})


def one_step(trainer: Trainer, batch: Batch, config: TrainConfig) -> TrainerStep:
    """Take one step with ``trainer``, and keep what came of it."""
    before = trainer.export()
    taken = trainer.step(*divided(batch, config))
    return TrainerStep(taken.loss, taken.grad_norm, before, trainer.export())


def by_micro_batch(trainer: Trainer, batch: Batch, config: TrainConfig) -> Iterator[TrainerStep]:
    """A step with all targets counted, then from the same state with each micro-batch's alone.

    The mean of the latter's gradients is the former's, and dividing by a power of two rounds
    nothing: what is apart was rounded when micro-batches were added up. For other numbers of them
    there is none.
    """
    count, start = config.micro_batches, trainer.export()
    if count & (count - 1) or count == 1:
        return
    inputs, targets = batch
    every = np.where(targets == IGNORED, inputs, targets)
    rows = np.arange(len(every)) * count // len(every)  # the micro-batch of each row
    alone = [np.where((rows == number)[:, None], every, IGNORED) for number in range(count)]
    for kept in (every, *alone):
        yield one_step(trainer, (inputs, kept), config)
        trainer.restore(start)


def divided(batch: Batch, config: TrainConfig) -> Iterator[Array]:
    """The batch as the trainer takes it, in micro-batches."""
    return (array.reshape(config.micro_batches, -1, array.shape[-1]) for array in batch)
