"""Metrics of training steps, and a run that goes back to a checkpoint on its way."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from bench.harness.foreign import Array, Batch

# What is judged of a training step, by kind: the mean loss, the joint norm of the gradients, and
# the summed loss of the same batch after the update, without dropout.
STEP_METRICS = {"loss": "loss", "grad_norm": "gradient", "val_loss": "loss"}
StepMetrics = dict[str, Array]  # a number for each training step, by names in STEP_METRICS

State = TypeVar("State")
Result = TypeVar("Result")


class Resumable(Protocol[State]):
    """A training run whose state can be taken out and put back."""

    def export(self) -> State:
        """The state now."""

    def restore(self, state: State, /) -> None:
        """Go on from ``state``."""


def steps_with_detour(
    run: Resumable[State],
    batches: list[Batch],
    step: Callable[[Batch], Result],
    detour: Callable[[State], object],
) -> Iterator[Result]:
    """The result of ``step`` on each batch, with a checkpoint written and read on the way.

    Halfway the run goes back to its start, takes the ``detour``, and goes on from the checkpoint
    of halfway, which the detour is handed.
    """
    start = run.export()
    for number, batch in enumerate(batches):
        if number == len(batches) // 2:
            halfway = run.export()
            run.restore(start)
            detour(halfway)
            run.restore(halfway)
        yield step(batch)
