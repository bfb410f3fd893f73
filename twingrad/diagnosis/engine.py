"""Find where a port first goes wrong, and probably why.

In float64, so that nothing is rounding: the parameters, then every module's own computation from
the same input, forward and backward, then the optimizer's updates on the same gradients. Where
float64 finds nothing, float32 may: some faults are of precision alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from twingrad import numerics
from twingrad.arithmetic import arithmetic
from twingrad.calls import Key, Pass
from twingrad.diagnosis import state
from twingrad.diagnosis.finding import Cause, Finding, Mode, Note, statistics
from twingrad.diagnosis.hypotheses import explain, loss, optimizer
from twingrad.diagnosis.hypotheses.context import Context
from twingrad.diagnosis.hypotheses.sketches import Sketched
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.diagnosis.sites import sketched
from twingrad.exact import Say, deterministic, silent
from twingrad.foreign import Array
from twingrad.live import LOSS, ROOT, LivePair, named
from twingrad.pair import Pair

if TYPE_CHECKING:
    from twingrad.diagnosis.hypotheses.changes.search import Trial  # it loads PyTorch

More = Callable[[LivePair, Pass], Iterable["Finding"]]
Scales = dict[tuple[str, str, str], numerics.Size]
DTYPES = ("float64", "float32")


def diagnose(
    pair: Pair, say: Say = silent, every: bool = False, more: More | None = None
) -> list[Finding]:
    """The first divergence of every stage that has one; with ``every``, all places.

    ``more`` looks further where the pass itself is equal, in each dtype. Raises ``ValueError`` for
    a pair that cannot be judged; ``exact.Unrepeatable`` is one.
    """
    scales: Scales = {}
    for dtype in DTYPES:
        with arithmetic(dtype):
            findings = list(stages(pair, dtype, say, every, more, scales))
        if findings:
            return findings
    return []


def stages(
    pair: Pair, dtype: str, say: Say, every: bool, more: More | None, scales: Scales
) -> Iterator[Finding]:
    """Findings in one dtype, stage by stage, until a stage has one, or of all stages."""
    say(f"{pair.name}, {dtype}: building both")
    live = LivePair.build(pair, dtype)
    seen = live.run_torch()
    if dtype == "float64":
        deterministic(live, seen, say)
    say(f"{pair.name}, {dtype}: every module from PyTorch's input")
    stages_left: list[Callable[[], Iterable[Finding]]] = [
        lambda: of_values(live),
        # A large model's replay is large, and is gone again before anything else is looked at.
        lambda: _of_places(Replay.run(live, seen), pair, dtype, every, scales),
    ]
    if dtype == "float64":
        stages_left += [
            lambda: _findings(state.compare(live, seen)),
            lambda: _of_updates(live, seen),
        ]
    if more is not None:
        stages_left.append(lambda: more(live, seen))
    for stage in stages_left:
        findings = list(stage())
        yield from findings
        if findings and not every:
            return


def of_values(live: LivePair) -> Iterator[Finding]:
    """Parameters that differ before anything is computed."""
    jax_values = live.in_torch({path: numerics.plain(x) for path, x in live.jax.tensors.items()})
    limit = numerics.OWN_RELATIVE[live.dtype]
    for name, torch in live.torch_parts(live.torch.views()).items():
        jax = jax_values[name]
        size = numerics.size(torch).l2
        gap = numerics.distance(torch, jax).l2
        if gap > limit * size:
            context = Context(
                stage="forward", what="parameter", torch=torch, jax=jax, dtype=live.dtype
            )
            yield Finding(
                stage="forward",
                where=name,
                reason=_transposed(torch, jax) or explain.explain(context),
                evidence=f"parameters differ by {gap / (size or 1.0):.3g} before the first step",
                dtype=live.dtype,
                mode=_mode(live.pair),
            )
            return


def _mode(pair: Pair) -> Mode:
    return "training" if pair.train else "evaluation"


def _transposed(torch: Array, jax: Array) -> Cause | None:
    square = torch.ndim == 2 and torch.shape[0] == torch.shape[1]
    if square and numerics.distance(torch.T, jax).l2 <= 1e-6 * numerics.size(torch).l2:
        return Cause.statement("it is read transposed on one side")
    return None


def _of_places(
    replay: Replay, pair: Pair, dtype: str, every: bool, scales: Scales
) -> list[Finding]:
    """The first divergence of the forward pass, else of the backward pass; with ``every``, all.

    ``scales`` keeps the scales of float64 errors, and gives them to float32: a gradient that is
    zero but for rounding has another size there.
    """
    limit = numerics.OWN_RELATIVE[dtype]
    findings: list[Finding] = []
    for places in (replay.forward(), replay.backward()):
        wrong = [place for place in scaled(places, scales) if not place.error <= limit]
        done: set[tuple[Key, str]] = set()
        for place in wrong:
            if (place.owner, place.what) in done:
                continue
            done.add((place.owner, place.what))
            findings.append(finding_of(replay, place, pair, dtype))
            if not every:
                return findings
    return findings


def scaled(places: Iterable[Divergence], scales: Scales) -> Iterator[Divergence]:
    """The places, their errors relative to the sizes in ``scales``, which keeps new ones."""
    for place in places:
        key = (place.stage, place.what, place.name)
        yield replace(place, scale=scales.setdefault(key, place.scale))


def finding_of(replay: Replay, place: Divergence, pair: Pair, dtype: str) -> Finding:
    """A divergence as a finding, with its cause where one is known."""
    measured = f"{place.name}: relative distance {place.error:.3g}, limit "
    measured += f"{numerics.OWN_RELATIVE[dtype]:g} in {dtype}"
    measured += ", in training mode" if pair.train else ""
    context = _context(replay, place, pair, dtype)
    reason = explain.explain(context)
    with np.errstate(all="ignore"):  # of numbers that are not finite
        evidence = f"{measured}; {statistics(place.torch, place.jax)}"
    return Finding(
        stage=place.stage,
        where=_where(replay, place),
        reason=reason,
        evidence=evidence + explain.evidence(context, reason),
        dtype=dtype,
        mode=_mode(pair),
    )


def _context(replay: Replay, place: Divergence, pair: Pair, dtype: str) -> Context:
    is_forward = place.stage == "forward"
    lookup = None if is_forward else _lookup_gradient(place)
    return Context(
        stage=place.stage,
        what=place.what,
        torch=place.torch,
        jax=place.jax,
        dtype=dtype,
        kind=place.call.kind if place.call else "",
        path=place.owner.path,
        call=place.call,
        before=replay.seen.calls.get(place.before) if place.before else None,
        sources=replay.sources(place) if is_forward else {},
        values=replay.own_values(place.owner),
        everything=replay.values,
        elsewhere=_elsewhere(replay, place) if is_forward else _tied_parts(place, lookup),
        batch=tuple(pair.batch),
        features=replay.seen.calls[replay.last].outputs[0] if replay.last else None,
        lookup=lookup,
        dropouts=replay.live.torch.dropouts(),
        modules=_modules(replay, place) if is_forward else {},
        rows_before=_rows_of(replay, place.before) if place.before else None,
        trial=_trial(replay, place, dtype),
        indices=replay.indices(place.owner),
        nearby={} if is_forward else replay.inputs_of_parts(place.owner),
    )


def _trial(
    replay: Replay, place: Divergence, dtype: str
) -> "Callable[[], Trial | Sketched | None] | None":
    """How causes are tried out at a place: by its module, or what a record has of it."""
    if dtype != "float64":
        return None
    if replay.live.torch.recorded:
        found = sketched(replay, place, replay.live.torch.scenes())
        return None if found is None else lambda: found
    from twingrad.diagnosis.trial import trial  # it loads PyTorch

    return partial(trial, replay, place)


def is_tried(replay: Replay, place: Divergence, dtype: str) -> bool:
    """Whether changed operations are looked at there, as far as they are in ``dtype``."""
    return dtype != "float64" or _trial(replay, place, dtype) is not None


def _rows_of(replay: Replay, key: Key) -> int | None:
    """The length of an embedding's table."""
    table = replay.own_values(key).get("weight")
    return None if table is None or table.ndim != 2 else len(table)


def _where(replay: Replay, place: Divergence) -> str:
    """The module by PyTorch's name, and by JAX's where that is another."""
    if place.what == "parameter":
        return place.name
    name, other = place_name(place.owner), replay.jax_calls.get(place.owner)
    return f"{name} ({other} in JAX)" if other and other.path != place.owner.path else name


def place_name(owner: Key) -> str:
    """A module by its path; the whole, and its loss, by what they are."""
    return {ROOT: "model", LOSS: "loss"}.get(owner, str(owner))


def _elsewhere(replay: Replay, place: Divergence) -> dict[str, Array]:
    """Other tensors of PyTorch's pass of such a shape: one of them may have been taken."""
    tensors = {}
    shapes = (place.torch.shape, place.jax.shape)
    within = f"{place.before.path}." if place.before else "."
    for key, call in replay.seen.calls.items():
        name = named(key)
        if key.path.startswith(within):
            continue  # the input of one of its parts is this very tensor
        encloses = key == ROOT or f"{place.owner.path}.".startswith(f"{key.path}.")
        done = place.owner == LOSS or not encloses
        for x in call.outputs[:1]:
            if x.shape in shapes and done:
                tensors[f"what leaves {name}"] = x
        for x in call.inputs[:1]:
            if x.shape in shapes and place.before != key:
                tensors[f"what enters {name}"] = x
    return tensors


def _modules(replay: Replay, place: Divergence) -> dict[str, Callable[[Array], Array]]:
    """PyTorch's modules within the owner that compute such a tensor from such a tensor."""
    shape = place.torch.shape
    modules = {
        str(key): replay.live.torch.applied(key.path)
        for key, call in replay.seen.calls.items()
        if replay.enclosing.get(key) == place.owner
        and not key.number
        and [x.shape for x in call.inputs] == [x.shape for x in call.outputs] == [shape]
    }
    return {name: module for name, module in modules.items() if module is not None}


def _lookup_gradient(place: Divergence) -> Array | None:
    """The embedding's own part of the gradient of a table that may have several uses."""
    call = place.call
    if place.what != "parameter" or call is None or not call.integers or place.torch.ndim != 2:
        return None
    ids, table = call.integers[0], place.torch
    if len(call.output_gradients) != 1 or not ids.size:
        return None
    gradient = call.output_gradients[0]
    if gradient.shape != (*ids.shape, table.shape[1]) or not 0 <= ids.min() <= ids.max() < len(
        table
    ):
        return None  # no lookup in this table
    part = np.zeros_like(table)
    np.add.at(part, ids.ravel(), gradient.reshape(-1, table.shape[1]))
    return part


def _tied_parts(place: Divergence, lookup: Array | None) -> dict[str, Array]:
    """Each use's own part of the gradient of a tied embedding."""
    if lookup is None:
        return {}
    torch_is_larger = numerics.size(place.torch).l2 >= numerics.size(place.jax).l2
    whole = place.torch if torch_is_larger else place.jax
    return {
        "both uses' gradient": whole,
        loss.LOOKUP: lookup,
        "the head's part of the tied gradient alone": whole - lookup,
    }


def _findings(found: Iterable[Finding | Note]) -> Iterator[Finding]:
    """Findings alone, without notes."""
    return (each for each in found if isinstance(each, Finding))


def _of_updates(live: LivePair, seen: Pass) -> Iterator[Finding]:
    """The optimizers' updates, both given PyTorch's gradients."""
    yield from optimizer.compare(live, seen)
