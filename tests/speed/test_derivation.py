"""Samples that count, growth, and ratios that two records share."""

from dataclasses import replace

import pytest

from bench.speed import derivation, record, scheduler
from bench.speed.results import Sample, SpeedRecord, Work


def _samples(*others: float, start: int = 0) -> list[Sample]:
    return [
        Sample(start=start, round=i, seconds=1.0 + i, others_cores=busy)
        for i, busy in enumerate(others)
    ]


def test_disturbed_samples_are_left_out_where_enough_are_clean():
    found = derivation.counted(_samples(0.0, 0.9, 0.0, 0.05, 0.0, 0.0), scheduler.QUIET)
    assert found == (1.0, 3.0, 4.0, 5.0, 6.0)


def test_disturbed_samples_count_where_few_are_clean():
    assert len(derivation.counted(_samples(0.0, 0.9, 0.0, 0.9), scheduler.QUIET)) == 4


def _rates(samples: list[Sample]) -> derivation.Rates:
    return derivation.rates(
        samples,
        median_s=1.0,
        first_s=1.0,
        step_s=1.0,
        work=Work(),
        datasheet=None,
        ceiling=0.0,
        quiet=scheduler.QUIET,
    )


def test_disturbed_samples_count_where_a_process_has_no_others():
    first, disturbed = _samples(*[0.0] * 6), _samples(0.9, 0.9, start=1)
    assert len(derivation.counted(first + disturbed, scheduler.QUIET)) == 8
    assert _rates(first).clean is True
    assert _rates(first + disturbed).clean is False
    calm = _samples(0.9, 0.0, start=1)
    assert len(derivation.counted(first + calm, scheduler.QUIET)) == 7


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
