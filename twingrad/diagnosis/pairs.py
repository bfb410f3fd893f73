"""Diagnosis of anybody's pair: whether the whole agrees, and if not, where it first parts.

float64 is a lens and not a verdict: much code computes in float32 whatever it is given. Casts to a
lower precision are left out first, so that formulas are compared and not their roundings, and noted
once. Then the rule that ``compare`` follows too: two models are equal where their output, loss and
all gradients agree on two batches, what they keep beside their parameters agrees, and so do the
updates of their optimizers. Where the whole agrees, modules that differ divide the work in another
way, which is a note. In float32 the casts stay.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from twingrad import batches, comparison, numerics
from twingrad.calls import Key, Pass
from twingrad.diagnosis import engine, state
from twingrad.diagnosis.engine import Say, Scales, silent
from twingrad.diagnosis.finding import Finding, Note
from twingrad.diagnosis.hypotheses import optimizer
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.jax_probe import Plain
from twingrad.live import LivePair, arithmetic, lifted
from twingrad.numerics import Verdict
from twingrad.pair import Pair
from twingrad.result import Findings


@dataclass(kw_only=True)
class _Diagnosis:
    """One diagnosis as it goes on."""

    pair: Pair
    say: Say
    every: bool
    findings: list[Finding] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    oracle: comparison.Values = field(default_factory=dict)
    scales: Scales = field(default_factory=dict)

    def add(self, results: Iterable[Finding | Note]) -> None:
        """Sort what a stage says into findings and notes, each once."""
        for result in results:
            if isinstance(result, Finding):
                self.findings.append(result)
            elif result not in self.notes:
                self.notes.append(result)

    @property
    def done(self) -> bool:
        """Whether a divergence is known, and no more are asked for."""
        return bool(self.findings) and not self.every


def diagnose(pair: Pair, say: Say = silent, every: bool = False) -> Findings:
    """The divergences of ``pair``, the largest over its limit first; only that, or ``every``.

    Raises ``ValueError`` for a pair that cannot be judged.
    """
    diagnosis = _Diagnosis(pair=pair, say=say, every=every)
    for dtype, judge in (("float64", _in_float64), ("float32", _in_float32)):
        if not diagnosis.findings:
            with arithmetic(dtype):
                judge(diagnosis)
    found = diagnosis.findings
    return Findings(found if every else found[:1], pair.name, diagnosis.notes)


def built(pair: Pair, say: Say) -> tuple[LivePair, Pass, Plain, list[Note]]:
    """Both models in float64, run once, with their casts left out where that can be done.

    Raises ``ValueError`` where they cannot be run in float64 either way.
    """
    say(f"{pair.name}, float64: building both")
    try:
        live = LivePair.build(pair, "float64", lift=True)
        return live, *_run_twice(live, say), []
    except engine.Unrepeatable:
        raise
    except ValueError as error:
        first = error
    try:
        live = LivePair.build(pair, "float64")
        seen, plain = _run_twice(live, say)
    except ValueError:
        raise first from None
    note = Note("model", f"judged with its casts to lower precision, since without them {first}")
    return live, seen, plain, [note]


def _run_twice(live: LivePair, say: Say) -> tuple[Pass, Plain]:
    seen = live.run_torch()
    engine.deterministic(live, seen, say)
    return seen, live.run_jax()


def _in_float64(diagnosis: _Diagnosis) -> None:
    """Parameters, the two passes on two batches, state, and updates."""
    pair, say = diagnosis.pair, diagnosis.say
    live, seen, plain, notes = built(pair, say)
    diagnosis.add(notes)
    diagnosis.add(engine.of_values(live))
    if diagnosis.done:
        return
    torch, jax = comparison.values(live, seen, plain)
    diagnosis.oracle = torch
    failing = comparison.failing_whole(torch, jax, torch, "float64")
    say(f"{pair.name}, float64: every module from PyTorch's input")
    places = _places(live, seen, diagnosis.scales)
    if not failing:
        diagnosis.add(_divisions(places, "float64"))
        places = []
        following = batches.second(pair)
        if following is not None:
            say(f"{pair.name}, float64: a second batch")
            live, seen, failing, places = _second(live, following)
    diagnosis.add(_ranked(places, live, "float64", diagnosis.every))
    if failing and not diagnosis.findings:
        diagnosis.add([_unplaced(failing[0], "float64")])
    if not diagnosis.done:
        diagnosis.add(state.compare(live, seen))
    if not diagnosis.done and pair.torch_optimizer and pair.jax_optimizer:
        say(f"{pair.name}, float64: updates")
        with lifted("jax", live.lift, live.jax_casts):
            diagnosis.add(optimizer.compare(live, seen))
    diagnosis.add(_cast_notes(live, seen))


def _second(
    live: LivePair, following: Pair
) -> tuple[LivePair, Pass, list[Verdict], "list[_Place]"]:
    """The whole on a second batch, and the places that differ where it does."""
    live = replace(live, pair=following)
    seen, plain = live.run_torch(), live.run_jax()
    torch, jax = comparison.values(live, seen, plain)
    failing = comparison.failing_whole(torch, jax, torch, "float64")
    return live, seen, failing, _places(live, seen, {}) if failing else []


def _in_float32(diagnosis: _Diagnosis) -> None:
    """The same passes with all roundings, judged by the float64 results."""
    pair = diagnosis.pair
    diagnosis.say(f"{pair.name}, float32: every module from PyTorch's input")
    live = LivePair.build(pair, "float32")
    seen = live.run_torch()
    places = _places(live, seen, diagnosis.scales)
    if not places:
        return
    torch, jax = comparison.values(live, seen, live.run_jax())
    failing = comparison.failing_whole(torch, jax, diagnosis.oracle, "float32")
    if failing:
        diagnosis.add(_ranked(places, live, "float32", diagnosis.every))
    else:
        diagnosis.add(_divisions(places, "float32"))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A divergence over its limit, and the replay that it is of."""

    replay: Replay
    divergence: Divergence

    @property
    def fits(self) -> bool:
        """Whether both models have a tensor of one shape there, so that values were compared."""
        return self.divergence.torch.shape == self.divergence.jax.shape


def _places(live: LivePair, seen: Pass, scales: Scales) -> list[_Place]:
    """Every divergence over the limit, in the order of computation."""
    replay = Replay.run(live, seen)
    limit = numerics.OWN_RELATIVE[live.dtype]
    return [
        _Place(replay=replay, divergence=place)
        for places in (replay.forward(), replay.backward())
        for place in engine.scaled(places, scales)
        if not place.error <= limit
    ]


def _ranked(places: Sequence[_Place], live: LivePair, dtype: str, every: bool) -> Iterable[Finding]:
    """One finding of each module and kind of tensor; modules with the largest errors first.

    Of a module the forward pass comes before the backward pass. A tensor that has another shape in
    the other model says that the work is divided otherwise: it comes last.
    """
    by_owner: dict[Key, list[_Place]] = {}
    for place in places:
        by_owner.setdefault(place.divergence.owner, []).append(place)
    groups = sorted(by_owner.values(), key=_rank)
    for group in groups:
        done: set[tuple[str, str]] = set()
        for place in sorted(group, key=lambda place: not place.fits):
            kind = (place.divergence.stage, place.divergence.what)
            if kind not in done:
                done.add(kind)
                finding = engine.finding_of(place.replay, place.divergence, live.pair, dtype)
                size = place.divergence.error / numerics.OWN_RELATIVE[dtype]
                yield replace(finding, size=size)
                if not every:
                    return


def _rank(group: Sequence[_Place]) -> tuple[bool, bool, float]:
    """Order of a module's divergences among others': values, forward ones, the largest."""
    fitting = [place for place in group if place.fits] or list(group)
    forward = [place for place in fitting if place.divergence.stage == "forward"] or fitting
    largest = max(place.divergence.error for place in forward)
    is_backward = forward[0].divergence.stage == "backward"
    return not fitting[0].fits, is_backward, -largest


def _divisions(places: Sequence[_Place], dtype: str) -> Iterable[Note]:
    """Notes of modules that differ in models that agree as a whole."""
    for owner in dict.fromkeys(place.divergence.owner for place in places):
        names = dict.fromkeys(
            place.divergence.name for place in places if place.divergence.owner == owner
        )
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        yield Note(
            engine.place_name(owner),
            f"the work is divided otherwise ({first}{more} differ in {dtype}), and the whole "
            "agrees: output, loss and all gradients",
        )


def _unplaced(verdict: Verdict, dtype: str) -> Finding:
    """The whole differs and no module does."""
    times = f"{verdict.error_ratio:.3g} times its limit"
    return Finding(
        stage="backward" if verdict.kind == "gradient" else "forward",
        where=verdict.name if verdict.kind == "gradient" else "model",
        reason=None,
        evidence=f"{verdict.kind} {verdict.name} is {times} apart in {dtype}; "
        "every module that both models have agrees on the same inputs",
        size=verdict.error_ratio,
    )


def _cast_notes(live: LivePair, seen: Pass) -> Iterable[Note]:
    """Which modules compute in a lower precision of their own accord, each once."""
    if not live.lift:
        return
    names = {key.path: other.path for key, other in live.names(seen).items()}
    torch = live.torch_casts.seen
    jax: dict[str, set[str]] = {}
    for path, dtypes in live.jax_casts.seen.items():
        jax.setdefault(names.get(path, path), set()).update(dtypes)
    for path in dict.fromkeys([*torch, *jax]):
        who = [name for name, seen in (("PyTorch", torch), ("JAX", jax)) if path in seen]
        dtypes = sorted(torch.get(path, set()) | jax.get(path, set()))
        verb = "compute" if len(who) > 1 else "computes"
        yield Note(
            path or "model",
            f"{' and '.join(who)} {verb} in {' and '.join(dtypes)} by design; "
            "judged in float64 without these casts",
        )
