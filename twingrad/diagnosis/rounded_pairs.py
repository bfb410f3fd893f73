"""Diagnosis of a pair in its own lower precision alone."""

from twingrad import comparison
from twingrad.arithmetic import arithmetic
from twingrad.decoding import check
from twingrad.diagnosis import engine, pairs, part, unaligned
from twingrad.diagnosis.finding import Note
from twingrad.exact import Say, silent
from twingrad.pair import Pair
from twingrad.result import Findings
from twingrad.rounded import RoundedRun, kept_and_updates


def diagnose(
    pair: Pair,
    say: Say = silent,
    every: bool = False,
    until: str | None = None,
    only: str | None = None,
) -> Findings:
    """The divergences of ``pair``, the largest over its limit first; only that, or ``every``.

    Raises ``ValueError`` for a pair that cannot be judged, and for a part that is nowhere.
    """
    diagnosis = pairs.Diagnosis(pair=pair, say=say, every=every, until=until, only=only)
    with arithmetic(pair.precision):
        run = RoundedRun.of(pair, say)
        diagnosis.part = part.chosen(run.run, until, only)
        diagnosis.add(run.run.notes)
        if diagnosis.part is None:
            diagnosis.add(engine.of_values(run.run.live))
        if not diagnosis.done:
            _passes(diagnosis, run)
        if diagnosis.findings:
            diagnosis.add(unaligned.notes(run.run))
    found = diagnosis.findings
    looked_at = diagnosis.part.as_object() if diagnosis.part else None
    return Findings(found if every else found[:1], pair.name, diagnosis.notes, looked_at, run.basis)


def _passes(diagnosis: pairs.Diagnosis, run: RoundedRun) -> None:
    """Both passes on two batches, then state, updates and decoding."""
    _of_run(diagnosis, run)
    second: RoundedRun | Note | None = None
    if not diagnosis.findings:
        second = run.second(diagnosis.say)
        if isinstance(second, RoundedRun):
            _of_run(diagnosis, second)
        else:
            diagnosis.add([second])
    for found in kept_and_updates(run, second, diagnosis.say).values():
        if not diagnosis.done and diagnosis.part is None:
            diagnosis.add(found)
    if not diagnosis.done and diagnosis.part is None:
        diagnosis.add(check.found(run.run.live, diagnosis.say))


def _of_run(diagnosis: pairs.Diagnosis, run: RoundedRun) -> None:
    """Findings and notes of one pass."""
    diagnosis.say(f"{diagnosis.pair.name}, {run.dtype}: every module from PyTorch's input")
    verdicts = run.verdicts()
    failing = run.failing(verdicts)
    every_place = run.places()
    places = diagnosis.looked_at(every_place)
    if not failing:
        diagnosis.add(pairs.divisions(places, run.dtype))
    elif run.is_rounding(failing, every_place):
        diagnosis.add(comparison.rounding_alone(failing, run.dtype))
    else:
        whole = failing if diagnosis.part is None else []
        diagnosis.add(pairs.ranked(places, whole, diagnosis.pair, run.dtype, diagnosis.every))
