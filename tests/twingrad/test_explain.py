"""Causes are named only where they explain the numbers: precisions, and ratios of one number."""

import numpy as np
import pytest

from twingrad.calls import Call, Key
from twingrad.diagnosis.hypotheses import explain
from twingrad.diagnosis.hypotheses.context import Context, rounded


def _cause(torch, jax, **given):
    context = Context(
        stage=given.pop("stage", "backward"), what="out", torch=torch, jax=jax, **given
    )
    cause = explain.explain(context)
    return None if cause is None else str(cause)


def _numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("apart", [2.0**-9, 2.0**-12, 5e-4, 1e-3, 0.016, 2.0**-25])
def test_in_float64_no_precision_is_named_for_the_size_of_an_error(apart):
    x = _numbers(16, 8)
    assert _cause(x, x + apart * _numbers(16, 8, seed=1)) is None


@pytest.mark.parametrize("precision", ["bfloat16", "float16 or TF32"])
def test_a_precision_is_named_where_rounding_one_side_gives_the_other(precision):
    x = _numbers(16, 8)
    low = rounded(x.astype(np.float32), precision).astype(float)
    assert _cause(x, low) == f"JAX's is rounded to {precision}"
    assert _cause(low, x) == f"PyTorch's is rounded to {precision}"


def test_zeros_are_not_taken_for_a_precision():
    x = np.full((16, 8), 1e-12)
    assert "rounded" not in (_cause(np.zeros_like(x), x) or "")


def test_in_float32_an_error_at_a_few_places_is_no_precision():
    x = _numbers(16, 8).astype(np.float32)
    there = x.copy()
    there[0, 0] += 0.02
    assert "round" not in (_cause(x, there, dtype="float32") or "")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bfloat16_is_rounded_to_even_as_the_frameworks_do(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="comes with JAX")
    x = np.float32([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, np.inf, -np.inf, np.nan, -0.0, 1e-40])
    x = np.concatenate([x, _numbers(1000).astype(np.float32)]).astype(dtype)
    expected = x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(dtype)
    np.testing.assert_array_equal(rounded(x, "bfloat16"), expected)


BATCH = (np.zeros((4, 6, 3)), np.array([[1, 2, -100], [3, -100, -100]]))


@pytest.mark.parametrize(
    ("ratio", "named"),
    [(-1, True), (4, True), (1 / 6, False), (np.log(2), True), (2, False), (0.5, False),
     (1.00063, False), (0.9371, False), (1.01, False), (-2.5, False)],
)  # fmt: skip
def test_a_ratio_of_two_losses_is_a_cause_only_as_one_count_or_constant(ratio, named):
    cause = _cause(np.asarray(1.7), np.asarray(1.7 * ratio), stage="forward", batch=BATCH)
    assert (cause is not None) == named, cause


def test_a_factor_of_many_numbers_is_a_cause_whatever_it_is():
    x = _numbers(16, 8)
    assert _cause(x, 1.01 * x) == "JAX's is 1.01 times PyTorch's"


@pytest.mark.parametrize("precision", ["bfloat16", "float16 or TF32"])
def test_a_product_of_few_bits_is_named_where_it_gives_the_numbers(precision):
    x, w, b = _numbers(8, 5), _numbers(4, 5, seed=1), _numbers(4, seed=2)
    product = rounded(rounded(x, precision) @ rounded(w.T, precision), precision)
    low = rounded(product + rounded(b, precision), precision)
    call = Call(
        key=Key("fc"), kind="Linear", inputs=[x], integers=[], outputs=[], input_gradients=[],
        output_gradients=[],
    )  # fmt: skip
    cause = _cause(x @ w.T + b, low, stage="forward", call=call, values={"weight": w, "bias": b})
    assert cause is not None
    assert f"all of it rounded to {precision}" in cause
