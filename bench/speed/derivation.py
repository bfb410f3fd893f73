"""Values that follow from a record's samples: rates, ratios, growth, and what two records share."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from bench.speed import statistics
from bench.speed.results import (
    AXES,
    Ceiling,
    Growth,
    Method,
    Outcome,
    Ratio,
    Result,
    Sample,
    SpeedRecord,
    Timing,
    Work,
)

# Clean samples that are needed before the disturbed ones are left out.
FEWEST = 5


@dataclass(frozen=True)
class Rates:
    """The rates of a timed row, what compiling cost, and whether nothing disturbed its samples."""

    compile_s: float
    tokens_per_s: float | None
    bytes_per_s: float | None
    mfu: float | None
    mfu_datasheet: float | None
    clean: bool


def counting(samples: Sequence[Sample], quiet: float) -> Sequence[Sample]:
    """The samples that count: the undisturbed ones where there are enough, else all.

    There are enough where they are ``FEWEST`` or more, and every process has one.
    """
    clean = [sample for sample in samples if sample.others_cores <= quiet]
    enough = len(clean) >= FEWEST and starts(clean) == starts(samples)
    return clean if enough else samples


def counted(samples: Sequence[Sample], quiet: float) -> tuple[float, ...]:
    """Seconds of the samples that count."""
    return tuple(sample.seconds for sample in counting(samples, quiet))


def starts(samples: Iterable[Sample]) -> set[int]:
    """The numbers of the processes that the samples come from."""
    return {sample.start for sample in samples}


def by_start(row: Result, quiet: float) -> dict[int, list[float]]:
    """Seconds of a row's samples that count, by the process they come from."""
    seconds: dict[int, list[float]] = {}
    for sample in counting(row.samples, quiet):
        seconds.setdefault(sample.start, []).append(sample.seconds)
    return seconds


def best(ceilings: Iterable[Ceiling]) -> float:
    """The highest rate of any product in any framework, FLOP/s; 0 where none was measured."""
    return max((p.flops_per_s for one in ceilings for p in one.products), default=0.0)


def rates(
    samples: Sequence[Sample],
    *,
    median_s: float,
    first_s: float,
    step_s: float,
    work: Work,
    datasheet: float | None,
    ceiling: float,
    quiet: float,
) -> Rates:
    """The rates that follow from the samples, the first step and the work.

    ``ceiling`` is the best rate of any matrix product alone, FLOP/s; 0 where none was measured.
    """
    flops = work.flops
    return Rates(
        compile_s=max(0.0, first_s - step_s),
        tokens_per_s=None if work.tokens is None else work.tokens / median_s,
        bytes_per_s=None if work.bytes is None else work.bytes / median_s,
        mfu=flops / median_s / ceiling if flops and ceiling else None,
        mfu_datasheet=flops / median_s / datasheet if flops and datasheet else None,
        clean=all(sample.others_cores <= quiet for sample in counting(samples, quiet)),
    )


def recomputed_rates(
    samples: Sequence[Sample], timing: Timing, ceiling: float, quiet: float
) -> Rates:
    """The rates that a row's times and samples should have."""
    return rates(
        samples,
        median_s=timing.median_s,
        first_s=timing.first_s,
        step_s=timing.step_s,
        work=timing.work,
        datasheet=timing.datasheet_flops_per_s,
        ceiling=ceiling,
        quiet=quiet,
    )


def interval(numerator: Result, denominator: Result, method: Method) -> statistics.Interval:
    """The ratio of two rows' medians and its interval, by the method of their record."""
    quiet = method.quiet_cores
    return statistics.ratio(
        by_start(numerator, quiet), by_start(denominator, quiet), method.covered, method.spread
    )


def ratios(rows: Sequence[Result], method: Method) -> list[Ratio]:
    """The ratio of every pair of rows that were timed in turn."""
    timed = [row for row in rows if row.timing]
    return [
        Ratio(
            numerator=row.contestant,
            denominator=other.contestant,
            **asdict(row.configuration),
            **asdict(interval(row, other, method)),
        )
        for number, row in enumerate(timed)
        for other in timed[number + 1 :]
    ]


def growth(results: Iterable[Result]) -> list[Growth]:
    """Exponents of a step's time against each size that was varied alone."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in results:
        if row.workload == "growth" and row.timing and row.axis in AXES:
            points = lines.setdefault((row.contestant, row.axis), [])
            points.append((getattr(row, row.axis), row.timing.median_s))
    grown = []
    for (contestant, axis), points in lines.items():
        sizes, seconds = zip(*points, strict=True)
        if len(set(sizes)) > 2 and min(sizes) > 0:
            law = statistics.exponent(sizes, seconds)
            grown.append(Growth(contestant, axis, sizes, seconds, **asdict(law)))
    return grown


def repeated(first: SpeedRecord, second: SpeedRecord) -> list[tuple[Ratio, Ratio, bool]]:
    """Ratios that two records share, and whether each one's interval has the other's in it."""
    others = {(r.numerator, r.denominator, r.configuration): r for r in second.ratios}
    pairs = [
        (ratio, others.get((ratio.numerator, ratio.denominator, ratio.configuration)))
        for ratio in first.ratios
    ]
    return [
        (ratio, other, _within(ratio, other) and _within(other, ratio))
        for ratio, other in pairs
        if other
    ]


def _within(ratio: Ratio, other: Ratio) -> bool:
    return ratio.low <= other.ratio <= ratio.high


def intervals(method: Method, rows: Iterable[Result]) -> str:
    """The kind of the intervals of ratios: their coverage, and over which samples."""
    timed = [starts(row.samples) for row in rows if row.status.outcome is Outcome.TIMED]
    least, most = (pick(map(len, timed), default=0) for pick in (min, max))
    over = f"over {most} starts" if most >= statistics.STARTS else "over samples"
    if least < statistics.STARTS <= most:
        over += f", over samples where under {statistics.STARTS} are shared"
    return f"intervals of {100 * method.covered:.3g} % {over}"
