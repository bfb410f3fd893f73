"""The search for one changed operation that turns PyTorch's numbers into JAX's."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from twingrad.diagnosis.finding import Cause
from twingrad.diagnosis.hypotheses import choice
from twingrad.diagnosis.hypotheses.changes import (
    functions,
    losses,
    masks,
    numbers,
    recurrent,
    shapes,
    windows,
)
from twingrad.diagnosis.hypotheses.changes.alternative import Alternative, Alternatives
from twingrad.foreign import Array, Tree
from twingrad.torch_replay import Change, Operation

# Settings of functions that have a name come before masks, orders and arithmetic.
FAMILIES: Sequence[Mapping[str, Alternatives]] = (
    losses.FAMILY,
    windows.FAMILY,
    recurrent.FAMILY,
    functions.FAMILY,
    masks.FAMILY,
    shapes.FAMILY,
    numbers.FAMILY,
)
BUDGET_S = 4.0  # for all that is tried at one place
SINGLES = 8  # of as many operations of one name each is tried by itself
# Arithmetic that multiplies by a constant.
SCALE = ("mul", "div", "rdiv", "mean", "sum", "matmul", "pow")


class Trial(Protocol):
    """One value of PyTorch's, as it would be if operations were changed."""

    @property
    def operations(self) -> Sequence[Operation]:
        """What PyTorch computes it by."""

    def predict(self, change: Change) -> Array | None:
        """The value after a change, if that can be computed."""


def cause(trial: Trial, torch: Array, jax: Array, near: float) -> Cause | None:
    """What one change explains, to a relative distance of ``near``; nothing for rival ones.

    ``choice.chosen`` says which of several it is.
    """
    deadline = time.monotonic() + BUDGET_S
    size = float(np.linalg.norm(jax.ravel()))

    def tried() -> Iterator[choice.Candidate]:
        for rank, alternative, is_arithmetic, change in candidates(trial.operations):
            if time.monotonic() > deadline:
                return

            def fits(change: Change = change) -> bool:
                predicted = trial.predict(change)
                if predicted is None or predicted.shape != jax.shape:
                    return False
                return float(np.linalg.norm((predicted - jax).ravel())) <= near * size

            yield rank, (alternative.torch, alternative.jax), is_arithmetic, fits

    return choice.chosen(tried(), torch, jax, near)


def candidates(
    operations: Sequence[Operation],
) -> Iterator[tuple[int, Alternative, bool, Change]]:
    """Every alternative of every group of operations, likely ones first.

    Each with its kind's rank, and whether it is arithmetic by a constant.
    """
    for rank, family in enumerate(FAMILIES):
        for name in dict.fromkeys(op.name for op in operations):
            if name not in family:
                continue
            is_arithmetic = family is numbers.FAMILY and name in SCALE
            named = [op for op in operations if op.name == name]
            for group in _groups(named):
                at = frozenset(op.number for op in group)
                for alternative in _until_refused(family[name](group[0])):
                    yield rank, alternative, is_arithmetic, Change(at, alternative.compute)


def _until_refused(alternatives: Iterator[Alternative]) -> Iterator[Alternative]:
    """The alternatives, up to one whose making raises: not every operation has them all."""
    while True:
        try:
            alternative = next(alternatives)
        except Exception:  # StopIteration among them
            return
        yield alternative


def _groups(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Operations of one name that are changed at once: all, those alike, and one by one."""
    yield operations
    alike: dict[Tree, list[Operation]] = {}
    for op in operations:
        alike.setdefault(_signature(op), []).append(op)
    if len(alike) > 1:
        yield from (group for group in alike.values())
    if len(operations) > 1:
        singles = [*operations[: SINGLES // 2], *operations[-SINGLES // 2 :]]
        done = [group[0].number for group in alike.values() if len(group) == 1]
        for number in dict.fromkeys(op.number for op in singles):
            if number not in done:
                yield [op for op in operations if op.number == number]


def _signature(op: Operation) -> Tree:
    """Shapes of what an operation is given, and its other arguments."""
    parts = [*op.args, *op.kwargs.items()]
    return tuple(tuple(x.shape) if hasattr(x, "shape") else repr(x)[:80] for x in parts)
