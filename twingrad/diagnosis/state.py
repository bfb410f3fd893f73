"""State that a model keeps beside its parameters, as passes in training mode leave it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twingrad import numerics
from twingrad.calls import Key, Pass
from twingrad.diagnosis.finding import Cause, Finding, Note, statistics
from twingrad.foreign import Array
from twingrad.live import LivePair

# A batch as either framework has it.
Batches = Sequence[tuple[Sequence[Array], Sequence[Array]]]
States = list[dict[str, Array]]  # by PyTorch's names, before the first batch and after each
# How near a rule must come to the state that it explains, relative to how far that state moved.
FIT = 1e-8
_MOVED = 1e-14
ALONE = "state not compared: {side} changes it and it has no partner in {other}; name it in names"
IDLE = "state not compared: the pair runs in evaluation mode; train=True compares it"
LOST = "state not compared: the pass does not return JAX's state"


def compare(live: LivePair, seen: Pass, batches: Batches = ()) -> Iterator[Finding | Note]:
    """The state of both models after each of ``batches`` in a row; without any, the pair's twice.

    A difference that a convention of the libraries' own layers explains wholly is a note.
    """
    if not live.pair.train:
        if any(p.jax in live.jax.required for p in live.partners):
            yield Note("model", IDLE)
        return
    batches = batches or [(live.pair.batch, live.jax_batch)] * 2
    whole_torch, whole_jax = _torch_states(live, batches), _jax_states(live, batches)
    yield from _alone(live, whole_torch, whole_jax)
    names = {p.name for p in live.partners if p.torch in whole_torch[0]}
    if names and live.jax.state and whole_jax[-1].keys().isdisjoint(live.jax.state):
        yield Note("model", LOST)
        return
    torch = [live.torch_parts(state) for state in whole_torch]
    tensors = {path: np.asarray(x) for path, x in live.jax.tensors.items()}
    jax = [live.in_torch({**tensors, **state}) for state in whole_jax]
    found: set[str] = set()
    for name in torch[0]:
        owner = name.rpartition(".")[0]
        runs = _Runs([s[name] for s in torch], [s[name] for s in jax])
        if runs.error <= numerics.OWN_RELATIVE[live.dtype] or owner in found:
            continue
        judged = _judged(live, seen, name, runs)
        yield judged
        if isinstance(judged, Finding):
            found.add(owner)


def _torch_states(live: LivePair, batches: Batches) -> States:
    ours = [batch for batch, _ in batches]
    return live.on_torch(lambda: live.torch.states(live.torch_loss, ours))


def _jax_states(live: LivePair, batches: Batches) -> States:
    theirs = [batch for _, batch in batches]
    return live.on_jax(lambda: live.jax.states(live.jax_loss, theirs))


def _alone(live: LivePair, torch: States, jax: States) -> Iterator[Note]:
    """State without a partner, if it changes."""
    sides = (
        (torch, {p.torch for p in live.partners}, "PyTorch", "JAX"),
        (jax, {p.jax for p in live.partners}, "JAX", "PyTorch"),
    )
    for states, matched, side, other in sides:
        for name, before in states[0].items():  # numbers alone
            after = states[-1].get(name, before)
            if name not in matched and numerics.distance(before, after).l2 > 0:
                yield Note(name, ALONE.format(side=side, other=other))


@dataclass(frozen=True)
class _Runs:
    """One part of the state in both frameworks, before the first batch and after each."""

    torch: list[Array]
    jax: list[Array]

    @property
    def error(self) -> float:
        """The largest relative distance after a batch."""
        return max(
            numerics.distance(t, j).l2 / (numerics.size(t).l2 or 1.0)
            for t, j in zip(self.torch[1:], self.jax[1:], strict=True)
        )


def _judged(live: LivePair, seen: Pass, name: str, runs: _Runs) -> Finding | Note:
    """A note where stock layers' conventions are all there is, else a finding."""
    reading = None
    if name.rpartition(".")[2] in ("running_mean", "running_var"):
        reading = _of_a_norm(live, seen, name, runs)
    if reading is not None and reading.is_convention:
        return Note(name, f"{reading.text}: {runs.error:.2g} apart, relative")
    text = reading.text if reading is not None else _of_a_step(runs)
    limit = numerics.OWN_RELATIVE[live.dtype]
    return Finding(
        stage="state",
        where=name,
        reason=Cause.statement(text) if text else None,
        evidence=f"after {len(runs.torch) - 1} batches in training mode it is {runs.error:.3g} "
        f"off, relative, limit {limit:g} in {live.dtype}; "
        + statistics(runs.torch[-1], runs.jax[-1]),
        dtype=live.dtype,
        mode="training",
        size=runs.error / limit,
    )


@dataclass(frozen=True)
class _Reading:
    """What explains a difference, and whether the libraries' own layers have it so."""

    text: str
    is_convention: bool


def _of_a_norm(live: LivePair, seen: Pass, name: str, runs: _Runs) -> _Reading | None:
    """Running statistics by other shares of the new, over n, or freed of their start."""
    owner, is_variance = name.rpartition(".")[0], name.endswith("var")
    share = live.torch.momentum(owner)
    count = _count(seen, owner)
    if share is None or not 0 < share <= 1:
        return None
    batches = [old + (new - old) / share for old, new in pairwise(runs.torch)]
    divisors = [(batches, "")]
    if is_variance and count > 1:
        biased = [b * ((count - 1) / count) for b in batches]
        text = f"the running variance is over n = {count} in JAX and over n - 1 in PyTorch"
        divisors.append((biased, text))
    for values, over_n in divisors:
        fitted = _share(runs.jax, values)
        if over_n and _fits(runs.jax, _averages(runs.jax[0], values, share)):
            return _Reading(over_n, is_convention=True)
        if _fits(runs.jax, _debiased(values, share)):
            text = "JAX's running averages are freed of their start (debiased), PyTorch's are not"
            return _Reading("; ".join(filter(None, (text, over_n))), is_convention=True)
        if fitted is not None and _fits(runs.jax, _averages(runs.jax[0], values, fitted)):
            return _Reading(_of_momentum(share, fitted), is_convention=False)
    return None


def _of_momentum(torch: float, jax: float) -> str:
    text = f"momentum: the new batch counts {torch:.6g} in PyTorch, {jax:.6g} in JAX"
    if abs(jax - (1 - torch)) < 1e-6:
        text += (
            "; PyTorch's momentum is the share that is new, that of JAX's libraries the share "
            f"that stays: {1 - torch:.6g} there"
        )
    return text if jax else "JAX does not update it: it is in evaluation mode, or its momentum is 1"


def _of_a_step(runs: _Runs) -> str | None:
    """How far each went in the first step, where one went a multiple of the other's way."""
    torch, jax = runs.torch[1] - runs.torch[0], runs.jax[1] - runs.jax[0]
    if not np.any(jax):
        return "JAX does not update it: it is in evaluation mode, or the update is lost"
    if not np.any(torch):
        return "PyTorch does not update it, JAX does"
    ratio = float((np.conj(torch) * jax).sum().real / (np.abs(torch) ** 2).sum())
    if torch.size > 1 and numerics.distance(jax, ratio * torch).l2 <= FIT * numerics.size(jax).l2:
        return f"the momentum or decay: JAX's first step is {ratio:.6g} times PyTorch's"
    return None


def _count(seen: Pass, owner: str) -> int:
    """How many numbers of a channel the norm's first call saw."""
    call = seen.calls.get(Key(owner))
    if call is None or not call.inputs or call.inputs[0].ndim < 2:
        return 0
    x = call.inputs[0]
    return int(x.size // x.shape[1])


def _share(jax: Sequence[Array], values: Sequence[Array]) -> float | None:
    """The share of the new that JAX's first step has, if it moves towards the batch's value."""
    way, step = values[0] - jax[0], jax[1] - jax[0]
    if way.shape != step.shape or not np.any(way):
        return None
    return float((way * step).sum() / (way * way).sum())


def _averages(start: Array, values: Sequence[Array], share: float) -> list[Array]:
    states = [start]
    for value in values:
        states.append((1 - share) * states[-1] + share * value)
    return states


def _debiased(values: Sequence[Array], share: float) -> list[Array]:
    """Averages from zero, divided by the weight that their values have together."""
    states = _averages(np.zeros_like(values[0]), values, share)
    return [x / ((1 - (1 - share) ** k) or 1.0) for k, x in enumerate(states)]


def _fits(actual: Sequence[Array], predicted: Sequence[Array]) -> bool:
    return all(
        numerics.distance(a, p).l2 <= FIT * (numerics.size(a).l2 + _MOVED)
        for a, p in zip(actual[1:], predicted[1:], strict=True)
    )
