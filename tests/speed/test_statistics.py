"""Statistics of timing samples."""

from dataclasses import asdict

import numpy as np
import pytest

from bench.speed import statistics


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("apart", [0.5, 1.0, 3.0])
def test_a_ratios_interval_covers_the_ratio(seed, apart):
    random = np.random.default_rng(seed)
    ours, theirs = apart * random.lognormal(0, 0.05, 9), random.lognormal(0, 0.05, 7)
    found = statistics.ratio({0: ours}, {0: theirs})
    assert found.ratio == pytest.approx(np.median(ours) / np.median(theirs))
    assert found.low < found.ratio < found.high
    assert found.low < apart < found.high


def test_a_ratios_interval_is_the_same_for_the_same_samples():
    samples = {0: [1.0, 1.1, 0.9, 1.3, 1.0]}, {0: [2.0, 2.2, 1.9]}
    assert statistics.ratio(*samples) == statistics.ratio(*samples)


def test_equal_samples_are_still_apart_by_what_processes_differ():
    found = statistics.ratio({0: [1.0] * 5}, {0: [1.0] * 5})
    spread = 1 + statistics.SPREAD
    assert asdict(found) == pytest.approx({"ratio": 1.0, "low": 1 / spread, "high": spread})


def _call(random, starts=4, spread=0.05, noise=0.02):
    """Samples of a call in which every process has a speed of its own."""
    return {
        start: np.exp(random.normal(0, spread) + random.normal(0, noise, 3))
        for start in range(starts)
    }


@pytest.mark.parametrize("starts", [3, 4, 6])
def test_an_interval_over_processes_holds_what_a_repeated_call_finds(starts):
    random = np.random.default_rng(starts)
    inside = 0
    for _ in range(1000):
        found = statistics.ratio(_call(random, starts), _call(random, starts))
        again = statistics.ratio(_call(random, starts), _call(random, starts))
        inside += found.low <= again.ratio <= found.high
    # Of a thousand, 990 are to be expected, give or take three (binomial).
    assert inside >= 978
    assert inside < 1000


def test_an_interval_over_one_process_each_does_not():
    random = np.random.default_rng(0)
    pairs = [[_call(random, 1, 0.2) for _ in range(4)] for _ in range(200)]
    found = [(statistics.ratio(a, b), statistics.ratio(c, d).ratio) for a, b, c, d in pairs]
    assert sum(one.low <= again <= one.high for one, again in found) < 100


def test_what_slows_a_start_for_all_does_not_widen_an_interval():
    slowed = {start: np.asarray([1.0, 1.01, 0.99]) * (1 + start) for start in range(4)}
    found = statistics.ratio(slowed, {n: 2 * np.asarray(own) for n, own in slowed.items()})
    assert asdict(found) == pytest.approx({"ratio": 0.5, "low": 0.5, "high": 0.5})


def test_only_starts_that_both_had_are_compared():
    ours = {0: [1.0], 1: [1.0], 2: [1.0], 3: [9.0]}
    found = statistics.ratio(ours, {0: [1.0], 1: [1.0], 2: [1.0]})
    assert asdict(found) == pytest.approx({"ratio": 1.0, "low": 1.0, "high": 1.0})


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.3])
def test_an_exponent_is_recovered(power):
    sizes = [128, 256, 512, 1024]
    found = statistics.exponent(sizes, [3e-4 * size**power for size in sizes])
    assert found.exponent == pytest.approx(power, abs=1e-9)
    assert found.r_squared == pytest.approx(1.0)


def test_what_is_no_power_fits_worse():
    assert statistics.exponent([1, 2, 4, 8], [1.0, 9.0, 2.0, 7.0]).r_squared < 0.5


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_summary_is_numpys(count):
    samples = np.random.default_rng(count).random(count)
    found = statistics.summary(list(samples))
    assert found.median_s == np.median(samples)
    assert found.quartile_low_s == np.percentile(samples, 25)
    assert found.quartile_high_s == np.percentile(samples, 75)


def test_the_first_value_that_is_off_is_named():
    expected = statistics.Interval(1.0, 2.0, 3.0)
    assert statistics.first_difference(expected, expected) is None
    off = statistics.Interval(1.0, 2.0 + 1e-6, 4.0)
    assert statistics.first_difference(off, expected) == "low"
