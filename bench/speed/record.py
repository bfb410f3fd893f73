"""Check of a benchmark record: its form, its values, and its parity checks."""

from collections.abc import Iterator
from pathlib import Path

from bench.harness import records
from bench.speed import contradictions, derivation, statistics
from bench.speed.results import Configuration, Method, Outcome, Ratio, Result, SpeedRecord
from bench.speed.schema import SCHEMA
from shared import files


class Refused(Exception):
    """A record that does not hold, and why."""


class _NoNumber(Exception):
    """NaN or an infinity, which Python reads and JSON does not have."""


# Bytes of the largest record that is read, some hundred times those that are committed: an empty
# list takes twenty times as much memory as text.
MOST_BYTES = 1 << 23


def load(name: str) -> SpeedRecord:
    """The committed record ``name``; ``ValueError`` if it is none of the benchmark."""
    return SpeedRecord.from_json(records.load(name).as_object())


def check(path: Path) -> str:
    """A record's summary in one sentence, if it holds.

    Raises ``ValueError`` for a file that is no record, and ``Refused`` for a record that does not
    hold: a field is missing, a value does not follow from the samples, a parity check failed.
    """
    try:
        content = files.read_json(
            path, MOST_BYTES, parse_constant=_no_number, object_pairs_hook=_each_key_once
        )
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: give a file that bench --json wrote") from None
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror or error}: give what bench --json wrote"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): give what bench --json wrote") from None
    except _NoNumber as constant:
        raise Refused(f"{path} does not hold: {constant} is no figure") from None
    except _TwiceNamed as twice:
        raise Refused(f"{path} does not hold: {twice}") from None
    problem = next(problems(content), None)
    if problem:
        raise Refused(f"{path} does not hold: {problem}")
    record = SpeedRecord.from_json(content)
    timed = sum(row.timing is not None for row in record.results)
    others = len(record.results) - timed
    untimed = f", {others} without a time, and why" if others else ""
    return (
        f"{path} holds: {timed} results{untimed}, {len(record.ratios)} ratios, "
        f"{derivation.intervals(record.method, record.results)}, every figure follows from its "
        f"samples, every parity check is good; on {record.environment['device']}, "
        f"{record.environment['hardware']['processor']}"
    )


def _no_number(constant: str) -> None:
    raise _NoNumber(constant)


class _TwiceNamed(Exception):
    """An object that has a key twice, of which a reader sees only the second."""


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _TwiceNamed(f"an object has {twice!r:.100} twice")
    return content


def problems(content: object) -> Iterator[str]:
    """Everything that is wrong with a record's JSON, the first that matters first."""
    wrong = list(_wrong_form(content))
    yield from wrong
    if wrong:
        return
    try:
        record = SpeedRecord.from_json(content)
    except ValueError as error:
        yield str(error)
        return
    ceiling, quiet = derivation.best(record.ceilings), record.method.quiet_cores
    rows: dict[tuple[str, Configuration], list[Result]] = {}
    for row in record.results:
        yield from _wrong_row(row, ceiling, quiet)
        if row.status.outcome is Outcome.TIMED:
            yield from contradictions.of_row(row, record.environment["device"])
        timed = row.status.outcome is Outcome.TIMED
        if timed and row.samples_s == derivation.counted(row.samples, quiet):
            rows.setdefault((row.contestant, row.configuration), []).append(row)
    for ratio in record.ratios:
        yield from _wrong_ratio(ratio, rows, record.method)
    expected = {(line.contestant, line.axis): line for line in derivation.growth(record.results)}
    for line in record.growth:
        right = expected.get((line.contestant, line.axis))
        if right is None or (line.sizes, line.median_s) != (right.sizes, right.median_s):
            yield f"growth of {line.contestant} against {line.axis} does not follow"
            continue
        law = statistics.PowerLaw(right.exponent, right.r_squared)
        if statistics.first_difference(line, law, relative=1e-6):
            yield f"growth of {line.contestant} against {line.axis} does not follow"
    yield from contradictions.of_record(record)


def _wrong_form(content: object) -> Iterator[str]:
    """Everything in which a record's form is not the schema's."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(SCHEMA).iter_errors(content)
    for error in sorted(errors, key=lambda error: list(map(str, error.path))):
        place = "/".join(str(part) for part in error.path) or "the record"
        yield f"{place}: {error.message[:200]}"


def _wrong_row(row: Result, ceiling: float, quiet: float) -> Iterator[str]:
    timing, parity = row.timing, row.parity
    if row.status.outcome is not Outcome.TIMED:
        if row.samples or timing:
            yield f"{row.title}: it has times though its status is {row.status.text!r}"
        return
    if timing is None or parity is None:  # reading refuses such a row
        return
    if not parity.ok:
        yield f"{row.title}: it is timed though its parity check failed"
    if parity.error_u > parity.limit_u:
        yield (
            f"{row.title}: parity error {parity.error_u:.3g} u is over its limit, "
            f"{parity.limit_u:.3g} u"
        )
    expected = derivation.counted(row.samples, quiet)
    if row.samples_s != expected:
        yield f"{row.title}: samples_s are not the samples that count"
        return
    summary = statistics.summary(expected)
    if name := statistics.first_difference(timing, summary):
        recorded, right = getattr(timing, name), getattr(summary, name)
        yield f"{row.title}: {name} is {recorded:.6g}, its samples give {right:.6g}"
    rates = derivation.recomputed_rates(row.samples, timing, ceiling, quiet)
    for name, right in vars(rates).items():
        recorded = getattr(timing, name)
        floats = isinstance(right, float) and isinstance(recorded, float)
        if recorded != right and not (floats and statistics.close(recorded, right)):
            yield f"{row.title}: {name} is {recorded}, and should be {right}"


def _wrong_ratio(
    ratio: Ratio, rows: dict[tuple[str, Configuration], list[Result]], method: Method
) -> Iterator[str]:
    numerators, denominators = (
        rows.get((contestant, ratio.configuration), [])
        for contestant in (ratio.numerator, ratio.denominator)
    )
    name = f"ratio {ratio.numerator}/{ratio.denominator}, {ratio.workload} {ratio.preset}"
    if not (numerators and denominators):
        yield f"{name}: one of the two was not timed"
        return
    # A contestant that ran in two groups has two rows, and a ratio is of one group.
    expected = [derivation.interval(a, b, method) for a in numerators for b in denominators]
    differences = [statistics.first_difference(ratio, right) for right in expected]
    if all(differences):
        key = differences[0] or "ratio"
        recorded, right = getattr(ratio, key), getattr(expected[0], key)
        yield f"{name}: {key} is {recorded:.6g}, the samples give {right:.6g}"
