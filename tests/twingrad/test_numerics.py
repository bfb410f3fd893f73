"""The measures and rules that decide, each shown what it must pass and what it must not."""

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
    NOISE,
    RATIO,
    UNIT_ROUNDOFF,
    Gaps,
    Size,
    Verdict,
    gaps,
    judge_contestant,
    judge_float64,
    judge_rounded,
    judge_step,
)

# Arrays that are cut into many chunks, along rows that are short, long, or all there is.
LARGE = {
    "a vector": (700_001,),
    "short rows": (9_001, 77),
    "long rows": (3, 300_001),
    "three axes": (50, 30, 401),
}


def _random(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _judged(torch, jax, dtype="float32", elements=1000):
    return judge_rounded("x", "gradient", off(torch, jax, dtype=dtype), ONE, dtype, elements)


# The bounds


def test_every_bound_is_what_the_pages_say():
    assert UNIT_ROUNDOFF == {
        "float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-8
    }  # fmt: skip
    assert (FLOAT64_RELATIVE, numerics.FLOAT64_TRAJECTORY_RELATIVE) == (1e-12, 1e-10)
    assert numerics.OWN_RELATIVE == {
        "float64": 1e-11, "float32": 64 * 2.0**-24, "bfloat16": 16 * 2.0**-8
    }  # fmt: skip
    assert numerics.NOISE_ROUNDED == {"float32": 2.0**-14, "bfloat16": 2.0**-4}
    assert numerics.CENTRAL_DIFFERENCE_RELATIVE == 1e-7
    assert (RATIO, FLOOR_U, FEW, FLOOR_OF_FEW_U) == (4, 4, 16, 16)
    assert CEILING_U == {"float32": 128, "tf32": 32, "bfloat16": 32}
    assert (ENVELOPE_FACTOR, NOISE, numerics.BEYOND) == (4, 2.0**-40, 1e300)


# Units


def test_units_are_half_the_spacing_of_the_numbers_after_one():
    for dtype in ("float32", "float64"):
        assert UNIT_ROUNDOFF[dtype] == np.finfo(dtype).eps / 2, dtype


def test_the_unit_of_bfloat16_is_half_of_what_the_framework_says(framework):
    if framework.name == "torch":
        import torch

        eps = torch.finfo(torch.bfloat16).eps
    else:
        import jax.numpy as jnp

        eps = float(jnp.finfo(jnp.bfloat16).eps)
    assert UNIT_ROUNDOFF["bfloat16"] == eps / 2


@pytest.mark.parametrize("dtype", UNIT_ROUNDOFF)
def test_an_error_of_one_roundoff_is_one_unit(dtype):
    u = UNIT_ROUNDOFF[dtype]
    for scale in (1.0, 3.0, 1e-20):
        assert math.isclose(numerics.in_units(u * scale, scale, dtype), 1), scale
    assert numerics.in_units(0.0, 0.0, dtype) == 0


def test_errors_under_the_smallest_normal_number_are_not_magnified():
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    assert numerics.in_units(tiny, 0.0, "float32") < 1
    assert numerics.in_units(1e-30, 0.0, "float32") > 1


@pytest.mark.parametrize(("dtype", "exponent"), [("float64", -1022), ("float32", -126)])
def test_under_the_smallest_normal_number_an_error_is_relative_to_that(dtype, exponent):
    smallest = 2.0**exponent
    for scale in (0.0, smallest):
        assert numerics.in_units(3 * smallest, scale, dtype) == 3
    assert numerics.in_units(3 * smallest, 2 * smallest / UNIT_ROUNDOFF[dtype], dtype) == 1.5


@pytest.mark.parametrize("error", [math.inf, math.nan])
def test_an_undefined_error_is_beyond_every_limit_and_still_a_number(error):
    assert numerics.in_units(error, 1.0, "float64") == numerics.BEYOND
    assert math.isfinite(numerics.BEYOND)


# Norms


@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distances_in_chunks_are_those_of_numpy(shape, dtype):
    x, y = _random(shape, dtype), _random(shape, dtype, seed=1)
    apart = x.astype(np.float64) - y
    expected = Size(float(np.linalg.norm(apart.ravel())), float(np.abs(apart).max()))
    for a, b in ((x, y), (x.T, y.T), (x, np.asfortranarray(y)), (x[::-1], y[::-1])):
        found = numerics.distance(a, b)
        assert math.isclose(found.l2, expected.l2, rel_tol=FLOAT64_RELATIVE)
        assert found.peak == expected.peak


@pytest.mark.parametrize("shape", [*LARGE.values(), (), (0,), (5,), (0, 4), (4, 0)])
def test_blocks_cover_every_element_once(shape):
    seen = np.zeros(shape, int)
    for block in numerics.blocks(shape):
        seen[block] += 1
    assert np.all(seen == 1)


def test_one_wrong_element_anywhere_in_a_large_array_is_seen():
    x = np.zeros(LARGE["a vector"])
    for at in (0, 262_143, 262_144, len(x) - 1):
        y = x.copy()
        y[at] = 1e-9
        assert numerics.distance(x, y) == Size(1e-9, 1e-9), at


def test_norms_of_float32_are_summed_in_float64():
    x = np.full(700_001, 0.1, np.float32)
    exact = float(x[0]) * math.sqrt(len(x))
    assert math.isclose(numerics.size(x).l2, exact, rel_tol=FLOAT64_RELATIVE)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e200])
def test_what_is_not_finite_is_infinitely_far_even_from_itself(wrong):
    x = np.array([1.0, wrong])
    assert numerics.size(x) == Size(math.inf, math.inf)
    assert numerics.distance(x, np.ones(2)) == Size(math.inf, math.inf)
    if not abs(wrong) < math.inf:
        with np.errstate(invalid="ignore"):
            assert numerics.distance(x, x) == Size(math.inf, math.inf)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (1, 2), (3,), (0,)])
def test_arrays_of_another_shape_are_infinitely_far_however_they_broadcast(shape):
    assert numerics.distance(np.zeros(2), np.zeros(shape)) == Size(math.inf, math.inf)


def test_parts_join_into_the_whole():
    x = _random((40,))
    parts = numerics.size(x[:7]).joined(numerics.size(x[7:]))
    assert math.isclose(parts.l2, numerics.size(x).l2)
    assert parts.peak == numerics.size(x).peak


def test_the_larger_of_two_sizes_is_taken_norm_by_norm():
    for one, other in ((Size(1.0, 8.0), Size(2.0, 4.0)), (Size(2.0, 4.0), Size(1.0, 8.0))):
        assert one.at_least(other) == Size(2.0, 8.0)
    assert Size(3.0, 8.0).joined(Size(4.0, 2.0)) == Size(5.0, 8.0)
    assert Size(3.0, 2.0).joined(Size(4.0, 8.0)) == Size(5.0, 8.0)
    whole = Gaps(ONE, Size(3.0, 1.0), Size(4.0, 1.0)).joined(
        Gaps(Size(0.0, 2.0), Size(4.0, 0.0), Size(3.0, 9.0))
    )
    assert whole == Gaps(Size(1.0, 2.0), Size(5.0, 1.0), Size(5.0, 9.0))


def test_numbers_whose_square_would_overflow_are_infinite_and_smaller_ones_are_not():
    assert numerics.size(np.array([-1e150])) == Size(1e150, 1e150)
    assert numerics.size(np.array([1.1e150])) == Size(math.inf, math.inf)
    assert numerics.size(np.zeros(0)) == Size(0.0, 0.0)


def test_an_array_up_to_the_size_of_a_block_is_one_and_a_larger_one_is_cut_into_rows():
    assert list(numerics.blocks((1 << 18,))) == [...]
    assert list(numerics.blocks(())) == [...]
    assert list(numerics.blocks(((1 << 18) + 1,))) == [
        slice(0, 1 << 18), slice(1 << 18, 1 << 19)
    ]  # fmt: skip
    rows = [block.stop - block.start for block in numerics.blocks((3, 1 << 18))]
    assert rows == [1, 1, 1]
    assert [block.start for block in numerics.blocks((8, 1 << 17))] == [0, 2, 4, 6]


def test_what_is_not_finite_is_put_aside_and_the_rest_kept():
    regular = np.array([1.0, -2.0])
    assert numerics.finite(regular) is regular
    mixed = np.array([np.nan, 1.0, np.inf, -np.inf, -2.0], np.float32)
    np.testing.assert_array_equal(numerics.finite(mixed), np.array([0, 1, 0, 0, -2], np.float32))
    assert numerics.finite(mixed).dtype == np.float32


def test_only_what_all_arrays_have_at_a_place_is_shared():
    inf, nan = np.inf, np.nan
    one = np.array([1.0, nan, inf, -inf, nan, inf])
    two = np.array([2.0, nan, inf, inf, 1.0, nan])
    three = np.array([3.0, nan, inf, -inf, nan, inf])
    found = numerics.without_shared(one, two, three)
    np.testing.assert_array_equal(found[0], [1.0, 0, 0, -inf, nan, inf])
    np.testing.assert_array_equal(found[1], [2.0, 0, 0, inf, 1.0, nan])
    np.testing.assert_array_equal(found[2], [3.0, 0, 0, -inf, nan, inf])
    for given in ((one, two[:5]), (np.ones(2), np.array([1.0, inf]))):
        found = numerics.without_shared(*given)
        assert all(a is b for a, b in zip(found, given, strict=True))


# float64


def test_a_verdict_says_what_was_judged_and_how_far_each_is_off():
    u = UNIT_ROUNDOFF["float64"]
    apart = Gaps(Size(1 * u, 2 * u), Size(3 * u, 5 * u), Size(4 * u, 7 * u))
    verdict = judge_float64("w", "gradient", apart, Size(2.0, 4.0), relative=8 * u)
    assert verdict == Verdict(
        name="w", kind="gradient", torch_error_u=0.5, jax_error_u=1.5, mutual_error_u=2.0,
        peak_error_u=1.25, limit_u=8.0, peak_limit_u=8.0, ok=True, error_ratio=0.25,
    )  # fmt: skip
    wide = Gaps(Size(1 * u, 9 * u), Size(1 * u, 1 * u), Size(1 * u, 1 * u))
    assert judge_float64("w", "loss", wide, ONE, relative=3 * u).error_ratio == 3.0
    same = gaps(np.ones(3), np.ones(3) + 2 * u)
    assert same.torch == same.jax == same.mutual == Size(math.sqrt(3) * 2 * u, 2 * u)


def test_an_error_of_just_the_limit_is_within_it():
    u = UNIT_ROUNDOFF["float64"]
    at = Gaps(*[Size(8 * u, 8 * u)] * 3)
    assert judge_float64("w", "loss", at, ONE, relative=8 * u).ok
    assert _judged(1.0, RATIO * 1.0).ok
    assert judge_step("loss[0]", "loss", 1.0, 1 + 2.0**-20, 1.0, 16.0, "float32").ok


def test_float64_results_within_the_bound_pass_and_beyond_it_do_not():
    truth = _random((30, 20))
    for factor, ok in ((0.9, True), (1.1, False)):
        moved = truth * (1 + factor * FLOAT64_RELATIVE)
        verdict = judge_float64("x", "activation", gaps(truth, moved), numerics.size(truth))
        assert verdict.ok is ok
        assert math.isclose(verdict.error_ratio, factor, rel_tol=1e-3)


def test_sides_that_flank_the_reference_are_also_held_against_one_another():
    truth = _random((30, 20))
    above, below = (truth * (1 + sign * 0.8 * FLOAT64_RELATIVE) for sign in (1, -1))
    scale = numerics.size(truth)
    assert judge_float64("x", "loss", gaps(truth, above, truth), scale).ok
    assert not judge_float64("x", "loss", gaps(below, above, truth), scale).ok


def test_the_third_reference_finds_what_both_sides_have_wrong():
    truth = _random((30, 20))
    wrong = truth * (1 + 2 * FLOAT64_RELATIVE)
    scale = numerics.size(truth)
    assert judge_float64("x", "loss", gaps(wrong, wrong), scale).ok
    assert not judge_float64("x", "loss", gaps(wrong, wrong, truth), scale).ok


def test_one_wrong_element_that_the_norm_of_a_large_tensor_hides_fails_by_its_peak():
    truth = np.ones(1_000_000)
    wrong = truth.copy()
    wrong[123] += 100 * FLOAT64_RELATIVE
    verdict = judge_float64("x", "gradient", gaps(truth, wrong), numerics.size(truth))
    assert verdict.mutual_error_u < verdict.limit_u
    assert not verdict.ok


# Lower precision


@pytest.mark.parametrize("dtype", CEILING_U)
def test_the_larger_error_may_be_a_ratio_of_the_smaller(dtype):
    small = CEILING_U[dtype] / RATIO / 2
    for torch, jax in ((small, 0.99 * RATIO * small), (0.99 * RATIO * small, small)):
        assert _judged(torch, jax, dtype).ok, (torch, jax)
    for torch, jax in ((small, 1.01 * RATIO * small), (1.01 * RATIO * small, small)):
        assert not _judged(torch, jax, dtype).ok, (torch, jax)


def test_errors_under_the_floor_are_equal_and_small_tensors_have_a_higher_one():
    assert _judged(0, 0.99 * FLOOR_U).ok
    assert not _judged(0, 1.01 * FLOOR_U).ok
    assert _judged(0, 0.99 * FLOOR_OF_FEW_U, elements=FEW - 1).ok
    assert not _judged(0, 1.01 * FLOOR_OF_FEW_U, elements=FEW - 1).ok
    assert not _judged(0, 0.99 * FLOOR_OF_FEW_U, elements=FEW).ok


def test_a_rounded_verdict_has_the_limit_of_the_smaller_error_and_the_ceiling_of_the_peak():
    u = UNIT_ROUNDOFF["float32"]
    apart = Gaps(Size(8 * u, 1 * u), Size(20 * u, 64 * u), Size(99 * u, 99 * u))
    verdict = judge_rounded("w", "update", apart, Size(2.0, 1.0), "float32", 99)
    assert verdict == Verdict(
        name="w", kind="update", torch_error_u=4.0, jax_error_u=10.0, mutual_error_u=49.5,
        peak_error_u=64.0, limit_u=16.0, peak_limit_u=128.0, ok=True, error_ratio=0.625,
    )  # fmt: skip


def _contestant(error, plain, elements=1000, peak=1.0, scale=ONE):
    u = UNIT_ROUNDOFF["float32"]
    measured = Size(error * u, peak * u)
    return judge_contestant("w", measured, plain * u, scale, "float32", elements)


def test_a_contestant_is_judged_beside_a_plain_run_by_the_rule_of_two_frameworks():
    assert _contestant(8, 2, scale=Size(2.0, 0.5)) == {
        "name": "w", "error_u": 4.0, "peak_error_u": 2.0, "limit_u": 4.0, "ok": True
    }  # fmt: skip
    assert _contestant(8, 2)["ok"]
    assert not _contestant(8.01, 2)["ok"]
    assert _contestant(16, 0, elements=FEW - 1)["ok"]
    assert not _contestant(16, 0, elements=FEW)["ok"]
    ceiling = CEILING_U["float32"]
    assert _contestant(ceiling, 99)["limit_u"] == ceiling
    assert not _contestant(ceiling + 1, 99)["ok"]
    assert _contestant(8, 2, peak=ceiling)["ok"]
    assert not _contestant(8, 2, peak=ceiling + 1)["ok"]


@pytest.mark.parametrize("dtype", CEILING_U)
def test_both_sides_equally_wrong_fail_by_the_ceiling(dtype):
    ceiling = CEILING_U[dtype]
    assert _judged(0.99 * ceiling, 0.99 * ceiling, dtype).ok
    assert not _judged(1.01 * ceiling, 1.01 * ceiling, dtype).ok


def test_a_local_fault_in_float32_fails_by_its_peak():
    truth = np.ones(1_000_000)
    wrong = truth.copy()
    wrong[123] += 2 * CEILING_U["float32"] * UNIT_ROUNDOFF["float32"]
    apart = gaps(truth, wrong, truth)
    verdict = judge_rounded("x", "gradient", apart, numerics.size(truth), "float32", truth.size)
    assert verdict.jax_error_u < verdict.limit_u
    assert not verdict.ok


@pytest.mark.parametrize("dtype", ["float64", *CEILING_U])
@pytest.mark.parametrize(
    "wrong", [np.full(3, np.nan), np.full(3, np.inf), np.ones(4), np.ones((3, 1))]
)
def test_nan_infinity_and_another_shape_are_never_right(dtype, wrong):
    truth = np.ones(3)

    def ok(torch, jax, reference):
        with np.errstate(invalid="ignore"):
            apart, scale = gaps(torch, jax, reference), numerics.size(reference)
        if dtype == "float64":
            return judge_float64("x", "loss", apart, scale).ok
        return judge_rounded("x", "loss", apart, scale, dtype, truth.size).ok

    assert ok(truth, truth, truth)
    assert not ok(wrong, truth, truth)
    assert not ok(truth, wrong, truth)
    assert not ok(wrong, wrong, truth)
    assert not ok(truth, truth, wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_two_results_that_are_both_not_finite_do_not_agree(wrong):
    x = np.full(3, wrong)
    with np.errstate(invalid="ignore"):
        assert not judge_float64("x", "loss", gaps(x, x), numerics.size(x)).ok
        apart = gaps(x, x, x)
    assert not judge_rounded("x", "loss", apart, numerics.size(x), "float32", 3).ok


# Noise


def test_a_gradient_that_is_noise_about_zero_is_measured_against_all_gradients():
    oracle = {
        "weight": np.ones(9),
        "key bias": np.full(9, NOISE / 2),
        "bias": np.full(9, NOISE * 2),
    }
    scales = numerics.scales(oracle)
    assert scales["weight"] == numerics.size(oracle["weight"])
    assert scales["bias"] == numerics.size(oracle["bias"])
    whole = math.sqrt(sum(numerics.size(value).l2 ** 2 for value in oracle.values()))
    assert scales["key bias"] == Size(whole, 1.0)


def test_a_gradient_of_just_the_size_of_noise_is_noise():
    scales = numerics.scales({"weight": np.ones(1), "key bias": np.array([NOISE])})
    assert scales == {"weight": ONE, "key bias": ONE}
    assert numerics.scales({}) == {}


def test_a_gradient_that_is_zero_in_one_side_and_not_in_the_oracle_fails():
    oracle = {"weight": np.ones(9), "bias": np.full(9, 1e-6)}
    apart = gaps(oracle["bias"], np.zeros(9), oracle["bias"])
    scale = numerics.scales(oracle)["bias"]
    assert not judge_rounded("bias", "gradient", apart, scale, "float32", 9).ok
    assert not judge_float64("bias", "gradient", apart, scale).ok
