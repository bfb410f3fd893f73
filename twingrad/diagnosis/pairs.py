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
from twingrad.calls import Key
from twingrad.diagnosis import engine, state
from twingrad.diagnosis.engine import Scales
from twingrad.diagnosis.finding import Finding, Note
from twingrad.diagnosis.replay import Divergence, Replay
from twingrad.exact import ExactRun, Say, silent
from twingrad.live import LivePair, arithmetic
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
    exact: ExactRun | None = None
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


def _in_float64(diagnosis: _Diagnosis) -> None:
    """Parameters, the two passes on two batches, state, and updates."""
    pair, say = diagnosis.pair, diagnosis.say
    run = ExactRun.of(pair, say)
    diagnosis.exact = run
    diagnosis.add(run.notes)
    diagnosis.add(engine.of_values(run.live))
    if diagnosis.done:
        return
    diagnosis.oracle, _ = comparison.values(run.live, run.seen, run.plain)
    failing = comparison.failing_whole(run)
    say(f"{pair.name}, float64: every module from PyTorch's input")
    places = _places(run, diagnosis.scales)
    if not failing:
        diagnosis.add(_divisions(places, "float64"))
        places = []
        following = batches.second(pair)
        if following is not None:
            say(f"{pair.name}, float64: a second batch")
            second = run.on(following)
            failing = comparison.failing_whole(second)
            places = _places(second, {}) if failing else []
    diagnosis.add(_ranked(places, pair, "float64", diagnosis.every))
    if failing and not diagnosis.findings:
        diagnosis.add([_unplaced(failing[0])])
    for compared in (state.compare(run.live, run.seen), comparison.updates(run, say)):
        if not diagnosis.done:
            diagnosis.add(compared)
    diagnosis.add(run.cast_notes())


def _in_float32(diagnosis: _Diagnosis) -> None:
    """The same passes with all roundings, judged by the float64 results."""
    pair = diagnosis.pair
    diagnosis.say(f"{pair.name}, float32: every module from PyTorch's input")
    like = diagnosis.exact.live if diagnosis.exact else None
    live = LivePair.build(pair, "float32", like=like)
    run = ExactRun(live=live, seen=live.run_torch(), plain=live.run_jax())
    places = _places(run, diagnosis.scales)
    if not places:
        return
    if comparison.failing_whole(run, diagnosis.oracle):
        diagnosis.add(_ranked(places, pair, "float32", diagnosis.every))
    else:
        diagnosis.add(_divisions(places, "float32"))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A divergence over its limit, and the replay that it is of."""

    replay: Replay
    divergence: Divergence

    @property
    def is_other_division(self) -> bool:
        """Whether tensors of other shapes stand there, which says little about what is wrong.

        An input of another shape is prepared elsewhere; an output of as many numbers lies
        otherwise.
        """
        torch, jax, what = self.divergence.torch, self.divergence.jax, self.divergence.what
        return torch.shape != jax.shape and (what == "in" or torch.size == jax.size)


def _places(run: ExactRun, scales: Scales) -> list[_Place]:
    """Every divergence over the limit, in the order of computation."""
    replay = Replay.run(run.live, run.seen, run.plain)
    limit = numerics.OWN_RELATIVE[run.live.dtype]
    return [
        _Place(replay=replay, divergence=place)
        for places in (replay.forward(), replay.backward())
        for place in engine.scaled(places, scales)
        if not place.error <= limit
    ]


def _ranked(places: Sequence[_Place], pair: Pair, dtype: str, every: bool) -> Iterable[Finding]:
    """One finding of each module and kind of tensor; modules with the largest errors first.

    Of a module the forward pass comes before the backward pass. Where the work is divided otherwise
    comes last.
    """
    by_owner: dict[Key, list[_Place]] = {}
    for place in places:
        by_owner.setdefault(place.divergence.owner, []).append(place)
    groups = sorted(by_owner.values(), key=_rank)
    for group in groups:
        done: set[tuple[str, str]] = set()
        for place in sorted(group, key=lambda place: place.is_other_division):
            kind = (place.divergence.stage, place.divergence.what)
            if kind not in done:
                done.add(kind)
                finding = engine.finding_of(place.replay, place.divergence, pair, dtype)
                size = place.divergence.error / numerics.OWN_RELATIVE[dtype]
                yield replace(finding, size=size)
                if not every:
                    return


def _rank(group: Sequence[_Place]) -> tuple[bool, bool, float]:
    """Order of a module's divergences among others': values, forward ones, the largest."""
    fitting = [place for place in group if not place.is_other_division] or list(group)
    forward = [place for place in fitting if place.divergence.stage == "forward"] or fitting
    largest = max(place.divergence.error for place in forward)
    is_backward = forward[0].divergence.stage == "backward"
    return fitting[0].is_other_division, is_backward, -largest


def _divisions(places: Sequence[_Place], dtype: str) -> Iterable[Note]:
    """Notes of modules that differ in models that agree as a whole."""
    for owner in dict.fromkeys(place.divergence.owner for place in places):
        names = dict.fromkeys(
            place.divergence.name for place in places if place.divergence.owner == owner
        )
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        yield Note(engine.place_name(owner), comparison.divided(f"{first}{more}", dtype))


def _unplaced(verdict: Verdict) -> Finding:
    """The whole differs and no module does."""
    times = f"{verdict.error_ratio:.3g} times its limit"
    return Finding(
        stage="backward" if verdict.kind == "gradient" else "forward",
        where=verdict.name if verdict.kind == "gradient" else "model",
        reason=None,
        evidence=f"{verdict.kind} {verdict.name} is {times} apart in float64; "
        "every module that both models have agrees on the same inputs",
        size=verdict.error_ratio,
    )
