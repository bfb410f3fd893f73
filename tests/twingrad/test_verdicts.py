"""The rules for the steps of a run, and for results that no float64 oracle says more of."""

import math

import numpy as np
import pytest

from tests.helpers.gaps import ONE, off
from twingrad import numerics
from twingrad.numerics import (
    CEILING_U,
    ENVELOPE_FACTOR,
    FEW,
    FLOAT64_RELATIVE,
    FLOOR_OF_FEW_U,
    FLOOR_U,
    UNIT_ROUNDOFF,
    Gaps,
    Size,
    Verdict,
    judge_float64,
    judge_rounded,
    judge_step,
)

# Where less is known


@pytest.mark.parametrize("dtype", CEILING_U)
def test_results_that_should_be_one_are_each_within_the_ceiling(dtype):
    u, ceiling = UNIT_ROUNDOFF[dtype], CEILING_U[dtype]
    apart = Gaps(Size(1 * u, 2 * u), Size(2 * u, 4 * u), Size(3 * u, 6 * u))
    assert numerics.judge_alike("w", "output", apart, Size(2.0, 4.0), dtype) == Verdict(
        name="w", kind="output", torch_error_u=0.5, jax_error_u=1.0, mutual_error_u=1.5,
        peak_error_u=1.0, limit_u=ceiling, peak_limit_u=ceiling, ok=True,
        error_ratio=1.5 / ceiling,
    )  # fmt: skip
    for torch, jax, mutual in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)):
        for factor, ok in ((0.99, True), (1.01, False)):
            errors = (error * factor * ceiling for error in (torch, jax, mutual))
            alike = numerics.judge_alike("w", "output", off(*errors, dtype=dtype), ONE, dtype)
            assert alike.ok is ok


def test_in_float64_results_that_should_be_one_are_judged_as_float64_is():
    for factor, ok in ((0.9, True), (1.1, False)):
        apart = Gaps(*[Size(factor * FLOAT64_RELATIVE, 0.0)] * 3)
        alike = numerics.judge_alike("w", "loss", apart, ONE, "float64")
        assert alike == judge_float64("w", "loss", apart, ONE)
        assert alike.ok is ok


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_an_oracle_rounded_results_have_the_bound_of_a_modules_own_computation(dtype):
    u, limit = UNIT_ROUNDOFF[dtype], numerics.OWN_RELATIVE[dtype] / UNIT_ROUNDOFF[dtype]
    apart = Gaps(*[Size(4 * u, 6 * u)] * 3)
    assert numerics.judge_mutual("w", "gradient", apart, Size(2.0, 1.0), dtype) == Verdict(
        name="w", kind="gradient", torch_error_u=2.0, jax_error_u=2.0, mutual_error_u=2.0,
        peak_error_u=6.0, limit_u=limit, peak_limit_u=CEILING_U[dtype], ok=True,
        error_ratio=max(2.0 / limit, 6.0 / CEILING_U[dtype]),
    )  # fmt: skip
    for factor, ok in ((0.99, True), (1.01, False)):
        apart = Gaps(*[Size(factor * limit * u, 0.0)] * 3)
        assert numerics.judge_mutual("w", "gradient", apart, ONE, dtype).ok is ok


def test_a_verdict_in_units_of_another_dtype_says_the_same():
    verdict = judge_rounded("x", "gradient", off(3.0, 24.0), ONE, "float32", 1000)
    times = 2.0**29  # 2**-24 in units of 2**-53
    assert numerics.counted_in(verdict, "float32", "float32") is verdict
    assert numerics.counted_in(verdict, "float32", "float64") == Verdict(
        name="x", kind="gradient", torch_error_u=3 * times, jax_error_u=24 * times,
        mutual_error_u=0.0, peak_error_u=24 * times, limit_u=12 * times,
        peak_limit_u=128 * times, ok=False, error_ratio=2.0,
    )  # fmt: skip


def test_float64_results_with_numbers_of_float32_in_them_differ_by_what_float32_moves():
    u, times = UNIT_ROUNDOFF["float32"], 2.0**29
    floors, scale = (Size(2 * u, 99.0), Size(6 * u, 1.0)), Size(2.0, 4.0)
    near = numerics.judge_coarse("w", "loss", Size(16 * u, 8 * u), floors, scale, 1000)
    # The larger of the two roundings is 3 u of float32, and four times that are allowed.
    assert near == Verdict(
        name="w", kind="loss", torch_error_u=8 * times, jax_error_u=8 * times,
        mutual_error_u=8 * times, peak_error_u=2 * times, limit_u=12 * times,
        peak_limit_u=128 * times, ok=True, error_ratio=8 / 12,
    )  # fmt: skip
    for factor, ok in ((0.99, True), (1.01, False)):
        apart = Size(factor * 24 * u, 0.0)
        assert numerics.judge_coarse("w", "loss", apart, floors, scale, 1000).ok is ok
        few, none = Size(factor * FLOOR_OF_FEW_U * u, 0.0), Size(0.0, 0.0)
        assert numerics.judge_coarse("w", "loss", few, (none, none), ONE, FEW - 1).ok is ok


# Trajectories


def test_an_envelope_only_grows_and_has_a_floor():
    run = np.array([4.0, 2.0, 1.0, 0.5])
    strayed = np.array([[0, 100, 10, 20], [0, -10, -200, 0]]) * UNIT_ROUNDOFF["float32"]
    limits = numerics.envelope(run, run * (1 + strayed), "float32")
    assert (limits / ENVELOPE_FACTOR).tolist() == [FLOOR_U, 100, 200, 200]


def test_a_step_has_the_distances_of_both_from_float64_and_is_judged_by_theirs():
    u = UNIT_ROUNDOFF["float32"]
    verdict = judge_step("loss[3]", "loss", 2 + 4 * u, 2 - 8 * u, 2.0, 24.0, "float32")
    assert verdict == Verdict(
        name="loss[3]", kind="loss", torch_error_u=2.0, jax_error_u=4.0, mutual_error_u=6.0,
        peak_error_u=6.0, limit_u=24.0, peak_limit_u=24.0, ok=True, error_ratio=0.25,
    )  # fmt: skip
    beyond = judge_step("loss[3]", "loss", math.nan, 2.0, 2.0, 24.0, "float32")
    assert (beyond.error_ratio, beyond.mutual_error_u) == (numerics.BEYOND, numerics.BEYOND)


def test_an_envelope_is_relative_to_the_runs_own_metric():
    u = UNIT_ROUNDOFF["float32"]
    run = np.array([-8.0, 0.5])
    limits = numerics.envelope(run, run + np.array([[64 * u, 0], [0, 16 * u]]), "float32")
    assert limits.tolist() == [32.0, 128.0]


def test_a_step_is_held_to_its_limit():
    u = UNIT_ROUNDOFF["float32"]
    for units, ok in ((9.0, True), (11.0, False), (math.nan, False), (math.inf, False)):
        verdict = judge_step("loss[3]", "loss", 2.0, 2.0 * (1 + units * u), 2.0, 10.0, "float32")
        assert verdict.ok is ok, units
    assert not judge_step("loss[3]", "loss", math.nan, math.nan, 2.0, 10.0, "float32").ok
    assert not judge_step("loss[3]", "loss", 2.0, 2.1, 2.0, math.nan, "float32").ok


def test_a_neighbouring_start_differs_by_one_ulp_everywhere_and_both_ways():
    start = {
        "w": np.random.default_rng(0).standard_normal((50, 40), np.float32),
        "b": np.zeros(200, np.float32),
    }
    moved, same, other = (numerics.one_ulp_away(start, seed) for seed in (0, 0, 1))
    for name, value in start.items():
        assert moved[name].dtype == np.float32, name
        assert 0 < np.mean(moved[name] > value) < 1, name
        up = np.nextafter(value, np.float32(np.inf))
        assert np.all((moved[name] == up) | (np.nextafter(moved[name], up) == value)), name
        assert np.all(moved[name] != value), name
        assert np.array_equal(moved[name], same[name]), name
        assert not np.array_equal(moved[name], other[name]), name
