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


def test_an_interval_over_processes_is_students():
    ours = {0: [1.0, 1.2, 1.1], 1: [1.3, 1.4], 2: [0.9], 3: [1.05, 1.0]}
    theirs = {3: [2.0, 2.1, 2.6], 1: [2.2], 0: [1.9, 2.0], 2: [2.4, 2.3]}
    logs = np.log([1.1 / 1.95, 1.35 / 2.2, 0.9 / 2.35, 1.025 / 2.1])
    # The 97.5 % quantile of Student's t with three degrees of freedom, from printed tables.
    half = 3.182446 * np.std(logs, ddof=1) * np.sqrt(2 / 4)
    found = statistics.ratio(ours, theirs, covered=0.95)
    assert found.ratio == np.median([1.0, 1.2, 1.1, 1.3, 1.4, 0.9, 1.05, 1.0]) / np.median(
        [2.0, 2.1, 2.6, 2.2, 1.9, 2.0, 2.4, 2.3]
    )
    assert found.low == pytest.approx(np.exp(logs.mean() - half), rel=1e-6)
    assert found.high == pytest.approx(np.exp(logs.mean() + half), rel=1e-6)
    wider = statistics.ratio(ours, theirs)
    assert wider == statistics.ratio(ours, theirs, covered=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_an_interval_always_holds_its_ratio_and_is_never_infinite():
    # Of the processes of both, another median than of all samples.
    found = statistics.ratio(
        {0: [1.0], 1: [1.0], 2: [1.0], 3: [9.0] * 9}, {0: [1.0], 1: [1.0], 2: [1.0]}
    )
    assert asdict(found) == {"ratio": 9.0, "low": 1.0, "high": 9.0}
    found = statistics.ratio(
        {0: [1.0], 1: [1.0], 2: [1.0], 3: [0.1] * 9}, {0: [1.0], 1: [1.0], 2: [1.0]}
    )
    assert asdict(found) == {"ratio": 0.1, "low": 0.1, "high": 1.0}
    wild = statistics.ratio({0: [1e-12], 1: [1.0], 2: [1e12]}, {n: [1.0] for n in range(3)})
    assert (wild.low, wild.high) == pytest.approx((np.exp(-69), np.exp(69)), abs=0)


def test_an_interval_over_samples_is_a_bootstrap_of_medians_widened():
    random = np.random.default_rng(7)
    ours, theirs = random.lognormal(0, 0.1, 400), random.lognormal(0.5, 0.1, 300)
    found = statistics.ratio({0: ours[:100], 1: ours[100:]}, {0: theirs}, covered=0.95, spread=0.5)
    # The median of n normal numbers has a deviation of sqrt(pi / 2 n) of theirs; that of drawn ones
    # also hangs on how far apart the few in the middle happen to lie.
    half = 1.96 * 0.1 * np.sqrt(np.pi / 2 * (1 / 400 + 1 / 300))
    assert np.log(found.low * 1.5 / found.ratio) == pytest.approx(-half, rel=0.35)
    assert np.log(found.high / 1.5 / found.ratio) == pytest.approx(half, rel=0.35)
    narrow = statistics.ratio({0: ours}, {0: theirs}, covered=0.95, spread=0.0)
    assert narrow.low == pytest.approx(found.low * 1.5, rel=0.01)


def test_a_fit_explains_its_share_of_the_spread():
    sizes, seconds = [1.0, 2.0, 4.0, 8.0], [1.0, 2.5, 3.0, 9.0]
    found = statistics.exponent(sizes, seconds)
    correlation = np.corrcoef(np.log(sizes), np.log(seconds))[0, 1]
    assert found.r_squared == pytest.approx(correlation**2)
    assert found.exponent == pytest.approx(
        correlation * np.std(np.log(seconds)) / np.std(np.log(sizes))
    )
    assert statistics.exponent([1, 2, 4], [3.0, 3.0, 3.0]).r_squared == 1.0


def test_values_are_close_relative_to_the_expected_one():
    assert statistics.close(1.0 + 0.9e-9, 1.0)
    assert not statistics.close(1.0 + 1.1e-9, 1.0)
    assert not statistics.close(1e-20, 0.0)
    assert statistics.close(1.09, 1.0, relative=0.1)
    off = statistics.Interval(1.0, 2.1, 3.0)
    expected = statistics.Interval(1.0, 2.0, 3.0)
    assert statistics.first_difference(off, expected, relative=0.1) is None
    assert statistics.first_difference(off, expected, relative=0.01) == "low"
