"""Samples that count, growth, and ratios that two records share."""

from dataclasses import replace

import pytest

from bench.speed import derivation, record
from bench.speed.results import Outcome, Sample, SpeedRecord, Status, Work

# Cores that others may keep busy on a machine with two.
QUIET = 0.10


def _samples(*others: float, start: int = 0) -> list[Sample]:
    return [
        Sample(start=start, round=i, seconds=1.0 + i, others_cores=busy)
        for i, busy in enumerate(others)
    ]


def test_disturbed_samples_are_left_out_where_enough_are_clean():
    found = derivation.counted(_samples(0.0, 0.9, 0.0, 0.05, 0.0, 0.0), QUIET)
    assert found == (1.0, 3.0, 4.0, 5.0, 6.0)


def test_disturbed_samples_count_where_few_are_clean():
    assert len(derivation.counted(_samples(0.0, 0.9, 0.0, 0.9), QUIET)) == 4


def _rates(samples: list[Sample]) -> derivation.Rates:
    return derivation.rates(
        samples,
        median_s=1.0,
        first_s=1.0,
        step_s=1.0,
        work=Work(),
        datasheet=None,
        ceiling=0.0,
        quiet=QUIET,
    )


def test_disturbed_samples_count_where_a_process_has_no_others():
    first, disturbed = _samples(*[0.0] * 6), _samples(0.9, 0.9, start=1)
    assert len(derivation.counted(first + disturbed, QUIET)) == 8
    assert _rates(first).clean is True
    assert _rates(first + disturbed).clean is False
    calm = _samples(0.9, 0.0, start=1)
    assert len(derivation.counted(first + calm, QUIET)) == 7


@pytest.fixture
def timed():
    """A row that was timed, of a committed record."""
    return record.load("speed-growth-cpu").results[0]


def test_growth_is_of_each_contestant_and_size_alone(timed):
    rows = [
        replace(
            timed,
            contestant=name,
            variant=f"{axis} {size}",
            timing=replace(timed.timing, median_s=1e-3 * size**power),
            **{axis: size},
        )
        for name, axis, power in (("a", "length", 2), ("a", "n_layers", 1), ("b", "length", 1))
        for size in (2, 4, 8)
    ]
    exponents = {(one.contestant, one.axis): one.exponent for one in derivation.growth(rows)}
    wanted = {("a", "length"): 2, ("a", "n_layers"): 1, ("b", "length"): 1}
    assert exponents == pytest.approx(wanted)


def _called(ratio: float, low: float, high: float, **named) -> SpeedRecord:
    whole = record.load("speed-growth-cpu")
    one = replace(whole.ratios[0], ratio=ratio, low=low, high=high, **named)
    return replace(whole, ratios=(one,))


@pytest.mark.parametrize(
    ("other", "covered"),
    [((1.1, 1.0, 1.2), True), ((1.1, 1.05, 1.2), False), ((1.3, 0.9, 1.4), False)],
)
def test_two_calls_agree_where_each_interval_has_the_others_ratio(other, covered):
    [(_, _, found)] = derivation.repeated(_called(1.0, 0.9, 1.2), _called(*other))
    assert found is covered


def test_only_ratios_of_the_same_two_are_held_against_each_other():
    first, second = _called(1.0, 0.9, 1.1), _called(1.0, 0.9, 1.1, preset="another")
    assert derivation.repeated(first, second) == []


def test_five_clean_samples_are_enough_and_one_at_the_limit_is_clean():
    samples = _samples(0.1, 0.1, 0.1, 0.1, 0.1, 0.11)
    assert derivation.counted(samples, 0.1) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert derivation.counted(samples[1:], 0.1) == (2.0, 3.0, 4.0, 5.0, 6.0)
    assert list(derivation.counting(samples, 0.1)) == samples[:5]


def test_samples_are_given_by_the_process_they_come_from(timed):
    samples = (*_samples(0.0, 0.0, 0.9), *_samples(*[0.0] * 4, start=2))
    row = replace(timed, samples=samples)
    assert derivation.starts(samples) == {0, 2}
    assert derivation.by_start(row, 0.1) == {0: [1.0, 2.0], 2: [1.0, 2.0, 3.0, 4.0]}


def test_the_best_rate_is_of_any_product_of_any_framework():
    ceilings = record.load("speed-growth-cpu").ceilings
    rates = [product.flops_per_s for one in ceilings for product in one.products]
    assert derivation.best(ceilings) == max(rates)
    assert derivation.best(ceilings[:1]) == max(rates[: len(ceilings[0].products)])
    assert derivation.best([]) == 0.0


def test_every_rate_follows_from_the_median_and_the_work():
    known = {"median_s": 2.0, "first_s": 7.0, "step_s": 3.0, "quiet": 0.1}
    work = Work(tokens=10.0, flops=80.0, bytes=6.0)
    samples = _samples(*[0.0] * 5)
    found = derivation.rates(samples, work=work, datasheet=160.0, ceiling=80.0, **known)
    assert found == derivation.Rates(
        compile_s=4.0, tokens_per_s=5.0, bytes_per_s=3.0, mfu=0.5, mfu_datasheet=0.25, clean=True
    )
    none = derivation.Rates(4.0, None, None, None, None, True)
    assert derivation.rates(samples, work=Work(), datasheet=160.0, ceiling=80.0, **known) == none
    flops = Work(flops=80.0)
    assert derivation.rates(samples, work=flops, datasheet=None, ceiling=0.0, **known) == none
    late = known | {"first_s": 2.0}
    assert derivation.rates(samples, work=work, datasheet=None, ceiling=0, **late).compile_s == 0


def test_rates_are_computed_again_from_a_rows_times(timed):
    timing = replace(
        timed.timing, median_s=2.0, first_s=7.0, step_s=3.0, work=Work(10.0, 80.0, 6.0),
        datasheet_flops_per_s=160.0,
    )  # fmt: skip
    found = derivation.recomputed_rates(_samples(*[0.2] * 5), timing, 80.0, 0.1)
    assert found == derivation.Rates(4.0, 5.0, 3.0, 0.5, 0.25, clean=False)


def test_a_ratio_is_of_every_two_rows_that_were_timed_by_the_records_method(timed):
    whole = record.load("speed-growth-cpu")
    rows = [replace(timed, contestant=name) for name in "abc"]
    rows[1] = replace(rows[1], timing=None)
    double = tuple(replace(s, seconds=2 * s.seconds) for s in timed.samples)
    rows.append(replace(timed, contestant="d", samples=double))
    found = derivation.ratios(rows, whole.method)
    assert [(one.numerator, one.denominator) for one in found] == [
        ("a", "c"), ("a", "d"), ("c", "d")
    ]  # fmt: skip
    assert [one.ratio for one in found] == pytest.approx([1.0, 0.5, 0.5])
    assert all(one.configuration == timed.configuration for one in found)
    wide = derivation.interval(rows[0], rows[3], replace(whole.method, covered=0.999, spread=1.0))
    assert wide.low < found[1].low
    assert wide.high > found[1].high


def test_growth_needs_three_sizes_of_a_workload_that_grows(timed):
    def rows(sizes, **changes):
        return [
            replace(timed, contestant="a", variant=f"length {size}", length=size, **changes)
            for size in sizes
        ]

    assert derivation.growth(rows((2, 4))) == []
    assert derivation.growth(rows((2, 4, 4))) == []
    assert derivation.growth(rows((0, 2, 4))) == []
    assert derivation.growth(rows((2, 4, 8), workload="train")) == []
    assert derivation.growth(rows((2, 4, 8), timing=None)) == []
    (line,) = derivation.growth(rows((2, 4, 8)))
    assert (line.contestant, line.axis, line.sizes) == ("a", "length", (2, 4, 8))
    assert line.median_s == (timed.timing.median_s,) * 3
    others = [replace(row, variant="vocab 2") for row in rows((2, 4, 8))]
    assert derivation.growth(others) == []


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ((4, 4), "intervals of 99 % over 4 starts"),
        ((3,), "intervals of 99 % over 3 starts"),
        ((1, 2), "intervals of 99 % over samples"),
        ((2, 4), "intervals of 99 % over 4 starts, over samples where under 3 are shared"),
        ((), "intervals of 99 % over samples"),
    ],
)
def test_the_kind_of_the_intervals_is_said(timed, starts, words):
    method = replace(record.load("speed-growth-cpu").method, covered=0.99)
    rows = [
        replace(timed, samples=tuple(_samples(0.0, start=n)[0] for n in range(count)))
        for count in starts
    ]
    failed = replace(timed, samples=(), status=Status(Outcome.FAILED, "no"))
    assert derivation.intervals(method, [*rows, failed]) == words
