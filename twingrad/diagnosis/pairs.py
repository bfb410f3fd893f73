"""Diagnosis of anybody's pair: whether the whole agrees, and if not, where it first parts.

float64 is a lens and not a verdict: much code computes in float32 whatever it is given. Casts to a
lower precision are left out first, so that formulas are compared and not their roundings, and noted
once. Then the rule that ``compare`` follows too: two models are equal where their output, loss and
all gradients agree on two batches, what they keep beside their parameters agrees, and so do the
updates of their optimizers. Where the whole agrees, modules that differ divide the work in another
way, which is a note. In float32 the casts stay, and a divergence needs both: a whole that is
rounded more than it should be, and a module that is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from twingrad import comparison, numerics
from twingrad.arithmetic import arithmetic
from twingrad.calls import Key
from twingrad.decoding import check
from twingrad.diagnosis import engine, part, unaligned
from twingrad.diagnosis.engine import Scales
from twingrad.diagnosis.finding import Finding, Note
from twingrad.diagnosis.part import Part
from twingrad.diagnosis.places import Place, beyond_limits, of_float64, rounded_too_much
from twingrad.exact import ExactRun, Say, silent
from twingrad.live import LivePair
from twingrad.numerics import Verdict
from twingrad.pair import Pair
from twingrad.result import Findings

NOT_TRIED = (
    "PyTorch's side is a record, so causes were looked for in its numbers; it has nothing of a "
    "module that would be run again with an operation changed, which was not tried: record JAX's "
    "side and judge PyTorch's for that"
)


@dataclass(kw_only=True)
class Diagnosis:
    """One diagnosis as it goes on."""

    pair: Pair
    say: Say
    every: bool
    until: str | None = None
    only: str | None = None
    part: Part | None = None
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
            elif result not in self.notes and (self.part is None or self.part.has_note(result)):
                self.notes.append(result)

    def looked_at(self, places: list[Place]) -> list[Place]:
        """The places in the part that was asked for."""
        return places if self.part is None else self.part.of(places)

    @property
    def done(self) -> bool:
        """Whether a divergence is known, and no more are asked for."""
        return bool(self.findings) and not self.every


def diagnose(
    pair: Pair,
    say: Say = silent,
    every: bool = False,
    until: str | None = None,
    only: str | None = None,
) -> Findings:
    """The divergences of ``pair``, the largest over its limit first; only that, or ``every``.

    With ``until`` or ``only``, those in a part of the modules: what each computes from the same
    inputs, forward and backward. Raises ``ValueError`` for a pair that cannot be judged, and for a
    part that is nowhere.
    """
    diagnosis = Diagnosis(pair=pair, say=say, every=every, until=until, only=only)
    for dtype, judge in (("float64", _in_float64), ("float32", _in_float32)):
        if not diagnosis.findings:
            with arithmetic(dtype):
                judge(diagnosis)
    found = diagnosis.findings
    if found and diagnosis.exact is not None:
        diagnosis.add(unaligned.notes(diagnosis.exact))
    looked_at = diagnosis.part.as_object() if diagnosis.part else None
    return Findings(found if every else found[:1], pair.name, diagnosis.notes, looked_at)


def _in_float64(diagnosis: Diagnosis) -> None:
    """Parameters, the two passes on two batches, state, and updates."""
    pair, say = diagnosis.pair, diagnosis.say
    run = ExactRun.of(pair, say)
    diagnosis.exact = run
    diagnosis.part = part.chosen(run, diagnosis.until, diagnosis.only)
    diagnosis.add(run.notes)
    if diagnosis.part is None:
        diagnosis.add(engine.of_values(run.live))
    if diagnosis.done:
        return
    torch, jax = comparison.values(run)
    diagnosis.oracle = torch
    diagnosis.add(comparison.nowhere_a_number(torch, jax))
    failing = _failing(torch, jax, torch, "float64")
    say(f"{pair.name}, float64: every module from PyTorch's input")
    places = diagnosis.looked_at(beyond_limits(run, diagnosis.scales))
    near = comparison.as_near_as_float32(run, say) if failing else []
    second = None if failing and not near else run.second(say)
    if near:
        diagnosis.add([comparison.coarse(near)])
        places, failing = [], []
    elif not failing:
        diagnosis.add(divisions(places, "float64"))
        places = []
    if isinstance(second, ExactRun):
        torch, jax = comparison.values(second)
        failing = _failing(torch, jax, torch, "float64")
        if failing and comparison.as_near_as_float32(second, say):
            failing = []
        places = diagnosis.looked_at(beyond_limits(second, {})) if failing else []
    elif second is not None:
        diagnosis.add([second])
    whole = failing if diagnosis.part is None else []
    if run.is_coarse:  # beside what is wrong, tables are apart by what float32 rounds
        least = numerics.OWN_RELATIVE["float32"]
        places = [place for place in places if not place.divergence.error <= least] or places
    diagnosis.add(ranked(places, whole, pair, "float64", diagnosis.every))
    stages = (
        comparison.kept(run, second),
        comparison.updates(run, say),
        check.found(run.live, say),
    )
    for compared in stages:
        if not diagnosis.done and diagnosis.part is None:
            diagnosis.add(compared)
    diagnosis.add(run.cast_notes())


def _in_float32(diagnosis: Diagnosis) -> None:
    """The same passes with all roundings, judged by the float64 results."""
    pair = diagnosis.pair
    diagnosis.say(f"{pair.name}, float32: every module from PyTorch's input")
    like = diagnosis.exact.live if diagnosis.exact else None
    live = LivePair.build(pair, "float32", like=like)
    run = ExactRun.once(live)
    torch, jax = comparison.values(run)
    failing = _failing(torch, jax, diagnosis.oracle, "float32")
    places = diagnosis.looked_at(beyond_limits(run, diagnosis.scales))
    if not failing:
        diagnosis.add(divisions(places, "float32"))
        return
    if diagnosis.exact is not None:
        places = rounded_too_much(places, of_float64(diagnosis.exact, places))
    if places:
        diagnosis.add(ranked(places, failing, pair, "float32", diagnosis.every))
    elif diagnosis.part is None:
        diagnosis.add(comparison.rounding_alone(failing))


def _failing(
    torch: comparison.Values, jax: comparison.Values, oracle: comparison.Values, dtype: str
) -> list[Verdict]:
    """Of output, loss and gradients, those that do not hold; none where the whole agrees."""
    return [v for v in comparison.whole(torch, jax, oracle, dtype) if not v.ok]


def ranked(
    places: Sequence[Place], failing: Sequence[Verdict], pair: Pair, dtype: str, every: bool
) -> Iterable[Finding | Note]:
    """One finding of each module and kind of tensor; modules with the largest errors first.

    Of a module the forward pass comes before the backward pass. Where the work is divided otherwise
    comes last. Where no module differs, the whole does: the first of ``failing``.
    """
    if failing and not places:
        yield _unplaced(failing[0], dtype)
    by_owner: dict[Key, list[Place]] = {}
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
                if not engine.is_tried(place.replay, place.divergence, dtype):
                    yield Note("model", NOT_TRIED)
                if not every:
                    return


def _rank(group: Sequence[Place]) -> tuple[bool, bool, float]:
    """Order of a module's divergences among others': values, forward ones, the largest."""
    fitting = [place for place in group if not place.is_other_division] or list(group)
    forward = [place for place in fitting if place.divergence.stage == "forward"] or fitting
    largest = max(place.divergence.error for place in forward)
    is_backward = forward[0].divergence.stage == "backward"
    return fitting[0].is_other_division, is_backward, -largest


def divisions(places: Sequence[Place], dtype: str) -> Iterable[Note]:
    """Notes of modules that differ in models that agree as a whole."""
    for owner in dict.fromkeys(place.divergence.owner for place in places):
        names = dict.fromkeys(
            place.divergence.name for place in places if place.divergence.owner == owner
        )
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        yield Note(engine.place_name(owner), comparison.divided(f"{first}{more}", dtype))


def _unplaced(verdict: Verdict, dtype: str) -> Finding:
    """The whole differs and no module does."""
    times = f"{verdict.error_ratio:.3g} times its limit"
    return Finding(
        stage="backward" if verdict.kind == "gradient" else "forward",
        where=verdict.name if verdict.kind == "gradient" else "model",
        reason=None,
        evidence=f"{verdict.kind} {verdict.name} is {times} apart in {dtype}; "
        "every module that both models have agrees on the same inputs",
        dtype=dtype,
        size=verdict.error_ratio,
    )
