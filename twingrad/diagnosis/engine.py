"""Where a port first goes wrong, and probably why.

In float64, so that nothing is rounding: the parameters, then every module's own computation from
the same input, forward and backward, then the optimizer's updates on the same gradients. Where
float64 finds nothing, float32 may: some faults are of precision alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from twingrad import numerics, torch_probe
from twingrad.calls import Key, Pass
from twingrad.diagnosis.finding import Finding, statistics
from twingrad.diagnosis.hypotheses import explain, loss, optimizer
from twingrad.diagnosis.hypotheses.context import Scene
from twingrad.diagnosis.replay import Place, Replay
from twingrad.live import LOSS, ROOT, Both, arithmetic, named
from twingrad.pair import Pair

Say = Callable[[str], None]
More = Callable[[Both, Pass], Iterable["Finding"]]
Scales = dict[tuple[str, str, str], numerics.Size]
DTYPES = ("float64", "float32")


def silent(text: str) -> None:
    """Nobody to tell."""


def diagnose(
    pair: Pair, say: Say = silent, every: bool = False, more: More | None = None
) -> list[Finding]:
    """The first divergence of every stage that has one; with ``every``, all places.

    ``more`` looks further where the pass itself is equal, in each dtype. Raises ``ValueError`` for
    a pair that cannot be judged; ``Unrepeatable`` is one.
    """
    scales: Scales = {}
    for dtype in DTYPES:
        with arithmetic(dtype):
            found = list(stages(pair, dtype, say, every, more, scales))
        if found:
            return found
    return []


def stages(
    pair: Pair, dtype: str, say: Say, every: bool, more: More | None, scales: Scales
) -> Iterator[Finding]:
    """Findings in one dtype, stage by stage, until a stage has one, or of all stages."""
    say(f"{pair.name}, {dtype}: building both")
    both = Both.build(pair, dtype)
    seen = both.run_torch()
    if dtype == "float64":
        _deterministic(both, seen, say)
    say(f"{pair.name}, {dtype}: every module from the other side's input")
    looks: list[Callable[[], Iterable[Finding]]] = [
        lambda: _of_values(both),
        # A large model's replay is large, and is gone again before anything else is looked at.
        lambda: _of_places(Replay.run(both, seen), pair, dtype, every, scales),
    ]
    if dtype == "float64":
        looks += [lambda: _of_state(both, seen), lambda: _of_updates(both, seen)]
    if more is not None:
        looks.append(lambda: more(both, seen))
    for stage in looks:
        found = list(stage())
        yield from found
        if found and not every:
            return


def _deterministic(both: Both, once: Pass, say: Say) -> None:
    """Refuse a pair that gives another loss when it is run again."""
    say(f"{both.pair.name}: running both twice")
    again = both.run_torch()
    if once.loss != again.loss:
        raise Unrepeatable("torch", once.loss, again.loss, _strays(once, again))
    first, second = (both.run_jax().loss for _ in range(2))
    if first != second:
        raise Unrepeatable("jax", first, second)


class Unrepeatable(ValueError):
    """A model that gives another loss when it is run again; ``where`` it does, if that is known."""

    def __init__(self, side: str, first: float, second: float, where: Key = ROOT):
        self.side, self.where = side, where
        super().__init__(
            f"the {side} model is not deterministic: its loss was {first:.12g}, and {second:.12g} "
            f"when it was run again, and {named(where)} is where that begins; switch dropout off, "
            "or seed it"
        )


def _strays(once: Pass, again: Pass) -> Key:
    """The innermost module in whose own computation two passes of one model first differ."""
    within = [ROOT]
    for way, key in once.events:
        ours, theirs = (
            call.inputs if way == "enter" else call.outputs
            for call in (once.calls[key], again.calls[key])
        )
        if any(not np.array_equal(x, y) for x, y in zip(ours, theirs, strict=True)):
            return within[-1]
        if way == "enter":
            within.append(key)
        else:
            within.pop()
    return ROOT


def _of_values(both: Both) -> Iterator[Finding]:
    """Parameters that differ before anything is computed."""
    ours = both.ours(torch_probe.views(both.torch))
    theirs = both.in_torch({path: np.asarray(x) for path, x in both.jax.tensors.items()})
    limit = numerics.OWN_RELATIVE[both.dtype]
    for name, value in ours.items():
        size = numerics.size(value).l2
        gap = numerics.distance(value, theirs[name]).l2
        if gap > limit * size:
            scene = Scene(stage="forward", what="parameter", torch=value, jax=theirs[name],
                          dtype=both.dtype)  # fmt: skip
            yield Finding(
                stage="forward",
                where=name,
                cause=_of_parameter(value, theirs[name]) or explain.explain(scene),
                evidence=f"parameters differ by {gap / (size or 1.0):.3g} before the first step",
            )
            return


def _of_parameter(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    square = ours.ndim == 2 and ours.shape[0] == ours.shape[1]
    if square and numerics.distance(ours.T, theirs).l2 <= 1e-6 * numerics.size(ours).l2:
        return "it is read transposed on one side"
    return None


def _of_places(
    replay: Replay, pair: Pair, dtype: str, every: bool, scales: Scales
) -> list[Finding]:
    """The first place of the forward pass, else of the backward pass; with ``every``, all.

    ``scales`` keeps what float64 errors are relative to, and gives it to float32: a gradient that
    is zero but for rounding has another size there.
    """
    limit = numerics.OWN_RELATIVE[dtype]
    found: list[Finding] = []
    for places in (replay.forward(), replay.backward()):
        wrong = [place for place in _scaled(places, scales) if not place.error <= limit]
        told: set[tuple[Key, str]] = set()
        for place in wrong:
            if (place.owner, place.what) in told:
                continue
            told.add((place.owner, place.what))
            found.append(_finding(replay, place, pair, dtype))
            if not every:
                return found
    return found


def _scaled(places: Iterable[Place], scales: Scales) -> Iterator[Place]:
    for place in places:
        key = (place.stage, place.what, place.name)
        yield replace(place, scale=scales.setdefault(key, place.scale))


def _finding(replay: Replay, place: Place, pair: Pair, dtype: str) -> Finding:
    scene = Scene(
        stage=place.stage,
        what=place.what,
        torch=place.torch,
        jax=place.jax,
        dtype=dtype,
        kind=place.call.kind if place.call else "",
        path=place.owner.path,
        call=place.call,
        before=replay.seen.calls.get(place.before) if place.before else None,
        sources=replay.sources(place) if place.stage == "forward" else {},
        values=replay.own_values(place.owner),
        everything=replay.values,
        elsewhere=_elsewhere(replay, place) if place.stage == "forward" else _parts(replay, place),
        batch=tuple(pair.batch),
        features=replay.seen.calls[replay.last].outputs[0] if replay.last else None,
        dropouts=torch_probe.dropouts(replay.both.torch),
        modules=_parts_of(replay, place) if place.stage == "forward" else {},
    )
    shown = f"{place.name}: relative distance {place.error:.3g}, limit "
    shown += f"{numerics.OWN_RELATIVE[dtype]:g} in {dtype}"
    shown += ", in training mode" if pair.train else ""
    return Finding(
        stage=place.stage,
        where=_where(replay, place),
        cause=explain.explain(scene),
        evidence=f"{shown}; {statistics(place.torch, place.jax)}",
    )


def _where(replay: Replay, place: Place) -> str:
    """The module by PyTorch's name, and by JAX's where that is another."""
    if place.what == "parameter":
        return place.name
    other = replay.back.get(place.owner)
    return place_name(place.owner) + (
        f" ({other} in JAX)" if other and other.path != place.owner.path else ""
    )


def place_name(owner: Key) -> str:
    """A module by its path; the whole, and its loss, by what they are."""
    return {ROOT: "model", LOSS: "loss"}.get(owner, str(owner))


def _elsewhere(replay: Replay, place: Place) -> dict[str, np.ndarray]:
    """Other tensors of PyTorch's pass of such a shape: one of them may have been taken."""
    found = {}
    shapes = (place.torch.shape, place.jax.shape)
    given = f"{place.before.path}." if place.before else "."
    for key, call in replay.seen.calls.items():
        name = named(key)
        if key.path.startswith(given):
            continue  # what is given to one of its parts is this very tensor
        encloses = key == ROOT or f"{place.owner.path}.".startswith(f"{key.path}.")
        done = place.owner == LOSS or not encloses
        for x in call.outputs[:1]:
            if x.shape in shapes and done:
                found[f"what leaves {name}"] = x
        for x in call.inputs[:1]:
            if x.shape in shapes and place.before != key:
                found[f"what enters {name}"] = x
    return found


def _parts_of(replay: Replay, place: Place) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """PyTorch's modules within the place's that make such a tensor of such a tensor."""
    shape = place.torch.shape
    return {
        str(key): partial(torch_probe.applied, replay.both.torch, key.path)
        for key, call in replay.seen.calls.items()
        if replay.enclosing.get(key) == place.owner
        and not key.number
        and [x.shape for x in call.inputs] == [x.shape for x in call.outputs] == [shape]
    }


def _parts(replay: Replay, place: Place) -> dict[str, np.ndarray]:
    """Of a gradient with several uses, each use's own part: a tied embedding's, say."""
    call = place.call
    if place.what != "parameter" or call is None or not call.integers or place.torch.ndim != 2:
        return {}
    part = np.zeros_like(place.torch)
    np.add.at(part, call.integers[0].ravel(),
              call.output_gradients[0].reshape(-1, place.torch.shape[1]))  # fmt: skip
    return {
        "both uses' gradient": place.torch if _larger(place) else place.jax,
        loss.LOOKUP: part,
        "the head's part of the tied gradient alone": (place.torch if _larger(place) else place.jax)
        - part,
    }


def _larger(place: Place) -> bool:
    """Whether PyTorch's has the more of it."""
    return numerics.size(place.torch).l2 >= numerics.size(place.jax).l2


def _of_state(both: Both, seen: Pass) -> Iterator[Finding]:
    """Running statistics after a pass in training mode."""
    if both.jax.trained >= both.jax.tensors.keys():
        return  # it has none
    ours = both.ours(seen.statistics)
    theirs = both.in_torch(both.run_jax().state)
    before = both.ours(torch_probe.views(both.torch))
    for name, value in theirs.items():
        if name not in ours:
            continue
        scale = numerics.size(ours[name]).l2
        gap = numerics.distance(ours[name], value).l2
        if gap > numerics.OWN_RELATIVE["float64"] * scale:
            yield Finding(
                stage="forward",
                where=name,
                cause=_momentum(before[name], ours[name], value),
                evidence=f"after one pass in training mode the statistic is {gap / scale:.3g} off; "
                + statistics(ours[name], value),
            )
            return


def _momentum(before: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """How far each side went: PyTorch's momentum is what comes, Flax's what stays."""
    step, other = ours - before, theirs - before
    if not step.any() or not other.any():
        return "one side does not update it: it is in evaluation mode, or its momentum is 1"
    ratio = float((step * other).sum() / (step * step).sum())
    if numerics.distance(other, ratio * step).l2 <= 1e-9 * numerics.size(other).l2:
        return (
            f"JAX's step is {ratio:.6g} times PyTorch's: PyTorch's momentum is the share that is "
            "new, Flax's the share that stays, and PyTorch's variance is over n - 1"
        )
    return "PyTorch's running variance is over n - 1, Flax's over n, or the momenta differ"


def _of_updates(both: Both, seen: Pass) -> Iterator[Finding]:
    """The optimizers' updates, both given PyTorch's gradients."""
    pair = both.pair
    if pair.torch_optimizer is None or pair.jax_optimizer is None:
        return
    yield from optimizer.compare(both, seen)


def timed(run: Callable[[], list[Finding]]) -> tuple[list[Finding], float]:
    """Findings, and the seconds that they took."""
    begun = time.perf_counter()
    return run(), time.perf_counter() - begun
