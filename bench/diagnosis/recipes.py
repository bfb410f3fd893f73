"""Recipes for a training run, choice by choice: the right one, and known mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, choice by choice; as it stands, how both trainers should."""

    batches: str = "each"
    seen: str = "all"  # which micro-batches
    divisor: str = "all that count"  # of a micro-batch's summed loss: targets
    factor: float = 1.0  # of the gradients alone
    summed: str = "all"  # whose gradients
    carried: bool = False  # whether the gradients of the step before are added on
    clip: str = "once"
    loss: str = "mean"  # what is reported
    norm: str = "before clipping"  # the same
    updates: int = 1
    forgets: bool = False  # whether every update begins with a new optimizer
    clock: str = "steps"  # what counters count
    keys: str = "each its own"  # of dropout
    drops: bool = True
    evaluates: str = "all, without dropout"
    keeps: tuple[str, ...] = ()  # what going back to a checkpoint leaves as it was
    zeroes: tuple[str, ...] = ()  # what that sets to zero
    swaps: bool = False  # whether that swaps the moments
    behind: int = 0  # steps that its counters lack
    coarse: bool = False  # whether a checkpoint keeps 11 bits


def variants(micro_batches: int, plain: bool) -> Iterator[tuple[str, Recipe]]:
    """The recipe, then known ways to get it wrong, each with what it is called."""
    right = Recipe()
    yield "the recipe", right

    def wrong(name: str, **changed: Any) -> tuple[str, Recipe]:
        return f"the recipe, but {name}", replace(right, **changed)

    if not plain:
        yield wrong("divided by the number of micro-batches once more", factor=1 / micro_batches)
    yield wrong("with the gradients of the steps before added on", carried=True)
    yield wrong("with a new optimizer at every step", forgets=True)
    yield wrong("with parameters that never move", updates=0)
    yield wrong("with every update taken twice", updates=2)
    yield wrong("with the first batch at every step", batches="first")
    yield wrong("with the loss taken after the update", loss="after")
    for factor in (2.0, 0.5):
        yield wrong(f"with gradients times {factor:g}", factor=factor)
    if plain:
        return
    yield wrong("divided by ignored targets too", divisor="all")
    yield wrong("with the mean of the micro-batches' own means", divisor="its own")
    yield wrong("without the last micro-batch", seen="not the last")
    yield wrong("with the first micro-batch twice", seen="first twice")
    yield wrong("with the last micro-batch's gradients alone", summed="last")
    yield wrong("reporting the last micro-batch's loss", loss="last")
    yield wrong("reporting the norm of the last micro-batch's share", norm="last")
    yield wrong("reporting the norm of the last micro-batch's own mean", norm="last alone")
    yield wrong("reporting the norm after clipping", norm="clipped")
    yield wrong("with every micro-batch's gradients clipped", clip="each")
    yield wrong("with the sum clipped after every micro-batch", clip="sum")
    yield wrong("with a schedule that counts micro-batches", clock="schedule")
    yield wrong("with every counter of steps counting micro-batches", clock="all")
    yield from (wrong(name, **changed) for name, changed in _dropout())
    yield wrong("evaluating without the last chunk", evaluates="but the last chunk")
    yield from (wrong(f"going back {name}", **changed) for name, changed in _restoring())


def _dropout() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "dropping the same units at every step", {"keys": "first step's"}
    yield "dropping the same units in every micro-batch", {"keys": "first micro-batch's"}
    yield "dropping the same units in every layer", {"keys": "first layer's"}
    yield "dropping nothing in training", {"drops": False}
    yield "dropping nothing once it has been evaluated", {"keys": "until evaluation"}
    yield "dropping units in evaluation, by the last keys", {"evaluates": "dropping"}
    yield "dropping units in evaluation, by keys of zero", {"evaluates": "dropping by zeros"}


def _restoring() -> Iterator[tuple[str, dict[str, Any]]]:
    names = {
        "parameters": "the parameters",
        "first": "the first moment",
        "second": "the second moment",
        "correction": "Adam's count of the steps",
        "schedule": "the schedule's count of the steps",
        "keys": "the step that dropout draws for",
    }
    for part, name in names.items():
        yield f"leaves {name} as it was", {"keeps": (part,)}
        if part in ("first", "second", "correction", "schedule"):
            yield f"sets {name} to zero", {"zeroes": (part,)}
    yield "swaps the moments", {"swaps": True}
    yield "counts one step too few", {"behind": 1}
    yield "rounds the checkpoint to float16", {"coarse": True}
