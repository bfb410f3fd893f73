"""Recipes for a training run, choice by choice: the right one, and known mistakes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Part = Literal["parameters", "first", "second", "correction", "schedule", "keys"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train, choice by choice; as it stands, how both trainers should.

    ``micro_batches`` are those whose loss is taken, ``gradients`` those whose gradients are added
    up. ``divisor`` is of a micro-batch's summed loss: the targets of all micro-batches that are not
    ignored, all targets, or its own. ``keeps`` and ``zeroes`` are parts of the state that going
    back to a checkpoint leaves as they were, or sets to zero.
    """

    batches: Literal["each", "first"] = "each"
    micro_batches: Literal["all", "not the last", "first twice"] = "all"
    divisor: Literal["counted", "all", "own"] = "counted"
    gradient_factor: float = 1.0
    gradients: Literal["all", "last"] = "all"
    carries_gradients: bool = False  # adds on those of the step before
    clip: Literal["once", "each", "sum"] = "once"
    loss: Literal["mean", "last", "after"] = "mean"  # that is reported
    norm: Literal["unclipped", "clipped", "last share", "last mean"] = "unclipped"  # the same
    updates: int = 1
    new_optimizer: bool = False  # at every update
    counts_micro_batches: Literal["nothing", "schedule", "all"] = "nothing"
    keys: Literal["own", "first step", "first micro-batch", "first layer", "until evaluation"] = (
        "own"
    )
    drops: bool = True
    evaluates: Literal["all", "without last chunk", "last keys", "zero keys"] = "all"
    keeps: Part | None = None
    zeroes: Part | None = None
    swaps_moments: bool = False
    steps_behind: int = 0
    rounds_checkpoint: bool = False  # to 11 bits


NamedRecipe = tuple[str, Recipe]


def variants(micro_batches: int, plain: bool) -> Iterator[NamedRecipe]:
    """The recipe, then known mistakes, each with its name; ``plain`` training has fewer."""
    yield "the recipe", Recipe()
    mistakes = _plain_mistakes() if plain else _trainer_mistakes(micro_batches)
    yield from ((f"the recipe, but {name}", recipe) for name, recipe in mistakes)


def _plain_mistakes() -> Iterator[NamedRecipe]:
    yield "with the gradients of the steps before added on", Recipe(carries_gradients=True)
    yield "with a new optimizer at every step", Recipe(new_optimizer=True)
    yield "with parameters that never move", Recipe(updates=0)
    yield "with every update taken twice", Recipe(updates=2)
    yield "with the first batch at every step", Recipe(batches="first")
    yield "with the loss taken after the update", Recipe(loss="after")
    for factor in (2.0, 0.5):
        yield f"with gradients times {factor:g}", Recipe(gradient_factor=factor)


def _trainer_mistakes(micro_batches: int) -> Iterator[NamedRecipe]:
    once_more = Recipe(gradient_factor=1 / micro_batches)
    yield "divided by the number of micro-batches once more", once_more
    yield from _plain_mistakes()
    yield "divided by ignored targets too", Recipe(divisor="all")
    yield "with the mean of the micro-batches' own means", Recipe(divisor="own")
    yield "without the last micro-batch", Recipe(micro_batches="not the last")
    yield "with the first micro-batch twice", Recipe(micro_batches="first twice")
    yield "with the last micro-batch's gradients alone", Recipe(gradients="last")
    yield "reporting the last micro-batch's loss", Recipe(loss="last")
    yield "reporting the norm of the last micro-batch's share", Recipe(norm="last share")
    yield "reporting the norm of the last micro-batch's own mean", Recipe(norm="last mean")
    yield "reporting the norm after clipping", Recipe(norm="clipped")
    yield "with every micro-batch's gradients clipped", Recipe(clip="each")
    yield "with the sum clipped after every micro-batch", Recipe(clip="sum")
    yield "with a schedule that counts micro-batches", Recipe(counts_micro_batches="schedule")
    counts_all = Recipe(counts_micro_batches="all")
    yield "with every counter of steps counting micro-batches", counts_all
    yield from _dropout_mistakes()
    yield "evaluating without the last chunk", Recipe(evaluates="without last chunk")
    yield from ((f"going back {name}", recipe) for name, recipe in _restoring_mistakes())


def _dropout_mistakes() -> Iterator[NamedRecipe]:
    yield "dropping the same units at every step", Recipe(keys="first step")
    yield "dropping the same units in every micro-batch", Recipe(keys="first micro-batch")
    yield "dropping the same units in every layer", Recipe(keys="first layer")
    yield "dropping nothing in training", Recipe(drops=False)
    yield "dropping nothing once it has been evaluated", Recipe(keys="until evaluation")
    yield "dropping units in evaluation, by the last keys", Recipe(evaluates="last keys")
    yield "dropping units in evaluation, by keys of zero", Recipe(evaluates="zero keys")


def _restoring_mistakes() -> Iterator[NamedRecipe]:
    names: dict[Part, str] = {
        "parameters": "the parameters",
        "first": "the first moment",
        "second": "the second moment",
        "correction": "Adam's count of the steps",
        "schedule": "the schedule's count of the steps",
        "keys": "the step that dropout draws for",
    }
    for part, name in names.items():
        yield f"leaves {name} as it was", Recipe(keeps=part)
        if part not in ("parameters", "keys"):
            yield f"sets {name} to zero", Recipe(zeroes=part)
    yield "swaps the moments", Recipe(swaps_moments=True)
    yield "counts one step too few", Recipe(steps_behind=1)
    yield "rounds the checkpoint to float16", Recipe(rounds_checkpoint=True)
