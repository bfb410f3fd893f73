"""The search for one changed operation that turns PyTorch's numbers into JAX's."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from twingrad.diagnosis.finding import Cause
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

    A factor can be written, or left out, at many places: where the two are a factor apart no
    arithmetic is a cause, nor, of a single number, is anything that gives a small whole factor.
    """
    deadline = time.monotonic() + BUDGET_S
    size = float(np.linalg.norm(jax.ravel()))
    if not np.isfinite(size) or torch.shape != jax.shape:
        return None
    factor = _factor(torch, jax, near)
    if factor is not None and jax.size == 1 and _is_plain(factor):
        return None
    fitting: list[tuple[int, Alternative]] = []
    for rank, alternative, change in _candidates(trial.operations, factor is not None):
        if time.monotonic() > deadline:
            break
        if fitting and rank > fitting[0][0]:
            break  # a kind that comes later explains nothing better
        predicted = trial.predict(change)
        if predicted is None or predicted.shape != jax.shape:
            continue
        if float(np.linalg.norm((predicted - jax).ravel())) <= near * size:
            fitting.append((rank, alternative))
            if jax.size > 1:
                break
    words = list(dict.fromkeys((a.torch, a.jax) for _, a in fitting))
    if len(words) != 1:
        return None
    return Cause(f"computed with {words[0][0]}", f"with {words[0][1]}")


def _factor(torch: Array, jax: Array, near: float) -> float | None:
    """The factor that the two are apart, if they are."""
    square = float((torch * torch).sum())
    if not square:
        return None
    factor = float((torch * jax).sum()) / square
    error = float(np.linalg.norm((jax - factor * torch).ravel()))
    return factor if error <= near * float(np.linalg.norm(jax.ravel())) else None


def _is_plain(factor: float) -> bool:
    """Whether anybody writes such a factor: 2, 1/3, 0.1 or the sign."""
    value = max(abs(factor), 1 / abs(factor)) if factor else 0.0
    return any(
        abs(value - plain) <= 1e-9 * plain for plain in (1.0, 1.5, 2.0, 3.0, 4.0, 10.0, 100.0)
    )


def _candidates(
    operations: Sequence[Operation], but_a_factor: bool
) -> Iterator[tuple[int, Alternative, Change]]:
    """Every alternative of every group of operations, likely ones first."""
    for rank, family in enumerate(FAMILIES):
        for name in dict.fromkeys(op.name for op in operations):
            if name not in family or (but_a_factor and family is numbers.FAMILY and name in SCALE):
                continue
            named = [op for op in operations if op.name == name]
            for group in _groups(named):
                try:
                    alternatives = list(family[name](group[0]))
                except Exception:
                    continue
                at = frozenset(op.number for op in group)
                for alternative in alternatives:
                    yield rank, alternative, Change(at, alternative.compute)


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
