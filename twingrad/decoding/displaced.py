"""Cached steps, computed again with their positions shifted by one or two.

Where the wrong model has no module that takes a position, the other model shows the mistake: its
own step, with the position shifted, gives the wrong model's numbers. A record keeps such steps as
sketches, since its model cannot be run.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twingrad import numerics
from twingrad.decoding.decoded import Call, Displaced, runs
from twingrad.decoding.parting import Parted, one
from twingrad.decoding.runner import Runner
from twingrad.decoding.sessions import Session
from twingrad.diagnosis.hypotheses import sketches
from twingrad.foreign import Array, Tree
from twingrad.sides import TITLES, Framework

STEPS_OFF = (1, -1, 2, -2)


def known(on: Session, tokens: Array, dtype: str, parted: Parted) -> int | None:
    """By how many positions a live model's step has to be shifted to give the other's numbers."""
    at = parted.position

    def tried(runner: Runner) -> int | None:
        def before() -> Tree:
            cache = runner.cache(*tokens.shape)
            return runner.step(tokens[:, :at], cache, 0)[1] if at else cache

        found = _steps(runner, tokens[:, at : at + 1], before, at)
        return next((off for off, x in found if one(x, parted.values, dtype).ok), None)

    return on(tried)


def recognised(steps: Iterable[Displaced], dtype: str, parted: Parted) -> int | None:
    """By how many positions a recorded model's step has to be shifted to give them."""
    near = one(parted.values, parted.reference, dtype).limit_u * numerics.UNIT_ROUNDOFF[dtype]
    for step in steps:
        is_there = step.position == parted.position
        if is_there and sketches.is_same(step.sketch, _sketched(parted.values), near):
            return step.off
    return None


def recorded(on: Session, tokens: Array) -> list[Displaced]:
    """Sketches of all steps, each with its position shifted in every way."""
    found: list[Displaced] = []
    for calls in runs(tokens.shape[1]):
        found += on(partial(_recorded, tokens=tokens, calls=calls))
    return found


def _recorded(runner: Runner, tokens: Array, calls: Sequence[Call]) -> list[Displaced]:
    """Sketches of the steps of one run."""
    cache, found = runner.cache(*tokens.shape), []
    for call in calls:
        given = tokens[:, call.start : call.start + call.count]
        before = partial(runner.filled, cache, {})
        for off, x in _steps(runner, given, before, call.start) if call.number else ():
            sketch = sketches.sketch(_sketched(x))
            found.append(Displaced(position=call.start, off=off, sketch=sketch))
        cache = runner.step(given, cache, call.start)[1]
    return found


def _sketched(x: Array) -> Array:
    """As many rows of logits [B, V] as a sketch is made of, but one at least."""
    return x[: max(1, sketches.MOST // max(1, x.shape[1]))]


def _steps(
    runner: Runner, token: Array, before: Callable[[], Tree], at: int
) -> list[tuple[int, Array]]:
    """Logits [B, V] of the step at position ``at``, shifted in every way, each from a new cache.

    There are none where no module takes the position.
    """
    runner.step(token, before(), at)
    given = [
        path
        for path, integers in runner.integers.items()
        if integers and all((x == at).all() for x in integers)
    ]
    steps = []
    for off in STEPS_OFF if given else ():
        cache = before()
        try:
            logits = runner.step(token, cache, at, dict.fromkeys(given, off))[0]
        except Exception:  # a position that a table does not have
            continue
        steps.append((off, logits[:, -1]))
    return steps


def sentence(off: int, at: int, other: Framework) -> str:
    """The cause, where the step of the ``other`` side gives these numbers."""
    return (
        f"the position is off by {off:+d} in the cached step: {TITLES[other]}'s gives these "
        f"numbers where its embedding of positions is given {at + off} at position {at}"
    )
