"""One tensor as the other's numbers in other places, masked, or a function of them."""

from dataclasses import replace

import numpy as np
import pytest

from twingrad.diagnosis.hypotheses import explain, not_finite, relations
from twingrad.diagnosis.hypotheses.context import Context

X = np.random.default_rng(0).normal(size=(6, 8))
MASK = np.arange(8)[None] < np.array([8, 5, 3, 8, 7, 6])[:, None]


def _cause(torch, jax, **given):
    context = Context(
        stage=given.pop("stage", "forward"), what="out", torch=torch, jax=jax, **given
    )
    cause = explain.explain(context)
    return None if cause is None else str(cause)


def _halves_swapped(x):
    return np.concatenate([x[:, 4:], x[:, :4]], 1)


PLACES = {
    "the halves of axis 1 swapped": _halves_swapped,
    "the halves of axis 1 interleaved": lambda x: (
        np.stack([x[:, :4], x[:, 4:]], -1).reshape(x.shape)
    ),
    "axis 1 in another order, even numbers before odd ones": lambda x: (
        np.concatenate([x[:, ::2], x[:, 1::2]], 1)
    ),
    "reversed along axis 0": lambda x: x[::-1],
    "reversed along axis 1": lambda x: x[:, ::-1],
    "rolled by 1 along axis 1": lambda x: np.roll(x, 1, 1),
    "rolled by -2 along axis 0": lambda x: np.roll(x, -2, 0),
    "its axes in the order (8, 6), read as (6, 8)": lambda x: x.T.reshape(6, 8),
    "shifted by +1 along axis 0 and zeros come in": lambda x: np.concatenate([0 * x[:1], x[:-1]]),
}  # fmt: skip


@pytest.mark.parametrize("words", PLACES)
def test_numbers_in_other_places_are_named_by_their_order(words):
    other = np.ascontiguousarray(PLACES[words](X))
    assert words in _cause(X, other)


@pytest.mark.parametrize("words", PLACES)
def test_one_number_that_is_another_is_no_order(words):
    other = np.array(PLACES[words](X))
    other[3, 5] += 1e-6
    assert words not in (_cause(X, other) or "")


def test_an_axis_that_is_cut_in_another_order_is_named():
    x = np.random.default_rng(2).normal(size=(2, 15))
    other = x.reshape(2, 3, 5).swapaxes(1, 2).reshape(2, 15)
    assert "axis 1 read as (5, 3) for (3, 5)" in _cause(x, other)


def test_two_axes_that_are_swapped_are_named():
    square = X[:, :6]
    assert "axes 0 and 1 swapped" in _cause(square, np.ascontiguousarray(square.T))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "SiLU", "GELU by erf", "ReLU", "softplus"])
def test_a_function_on_top_is_named_on_its_own_side(name):
    other = relations.FUNCTIONS[name](X)
    assert _cause(X, other) == f"JAX's is {name} of PyTorch's"
    assert _cause(other, X) == f"PyTorch's is {name} of JAX's"


def test_a_function_that_nearly_fits_is_not_named():
    assert _cause(X, np.tanh(X) + 1e-7 * X) is None


def test_zeros_are_no_function_of_large_negative_numbers():
    """As GELU would make them."""
    cause = _cause(-12 - np.abs(X), np.zeros_like(X), stage="backward")
    assert cause == "no gradient flows in JAX: it is stopped"


def test_a_number_that_is_added_everywhere_is_named():
    assert _cause(X, X + 1.0) == "JAX's is PyTorch's plus 1"


SETS = {
    "where array 1 of the batch is False": (MASK, X * MASK),
    "at positions 2, 4 of axis 0": (None, X * ~np.isin(np.arange(6), (2, 4))[:, None]),
    "at the last position of axis 1": (None, np.where(np.arange(8) == 7, 0, X)),
    "at positions 3 to 7 of axis 1": (None, np.where(np.arange(8) > 2, 0, X)),
}


@pytest.mark.parametrize("words", SETS)
@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_places_that_are_zero_in_one_model_are_named(words, stage):
    mask, other = SETS[words]
    batch = () if mask is None else (mask,)
    verb = "there are zeros" if stage == "forward" else "no gradient flows"
    assert _cause(X, other, batch=batch, stage=stage) == (
        f"{verb} in JAX {words}; all else is equal"
    )
    assert f"{verb} in PyTorch {words}" in _cause(other, X, batch=batch, stage=stage)


def test_a_mask_that_fits_all_but_one_place_is_not_named():
    other = X * MASK
    other[0, 0] = 0
    assert "array 1" not in (_cause(X, other, batch=(MASK,)) or "")


def test_numbers_above_the_diagonal_are_named():
    square = np.random.default_rng(1).normal(size=(2, 5, 5))
    assert "above the diagonal" in _cause(square, np.tril(square))


def test_random_numbers_have_no_cause_and_show_where_they_first_differ():
    other = X.copy()
    other[2, 3:] += np.random.default_rng(1).normal(size=5)
    context = Context(stage="forward", what="out", torch=X, jax=other)
    said = explain.evidence(context, None)
    assert f"first at [2, 3]: {X[2, 3]:.8g} in PyTorch, {other[2, 3]:.8g} in JAX" in said
    assert "10 % of the numbers differ" in said
    assert "neither is the other's reordered, shifted, scaled or masked" in said


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (4.0, "JAX's is 4 times PyTorch's"),
        (np.sqrt(6), "the root of 6, the size of axis 0 of the tensor"),
        (1 / 8, "1 / 8, the size of axis 1 of the tensor"),
        (8 / 7, "n / (n - 1), n being 8"),
        (-1.0, "the sign is turned"),
    ],
)
def test_a_factor_of_many_numbers_is_named_by_the_counts_at_hand(ratio, words):
    assert words in _cause(X, ratio * X)


BATCH = (np.zeros((4, 6, 3)), np.array([[1, 2, -100], [3, -100, -100]]))


@pytest.mark.parametrize("ratio", [2.0, 0.5, 1.00063, 0.9371, 1.01, -2.5, 6.0 / 4, 1.5])
def test_a_ratio_of_two_single_numbers_is_no_cause_but_a_hint(ratio):
    torch, jax = np.asarray(1.7), np.asarray(1.7 * ratio)
    assert _cause(torch, jax, batch=BATCH) is None
    context = Context(stage="forward", what="loss", torch=torch, jax=jax, batch=BATCH)
    assert f"JAX's is {ratio:.9g} times PyTorch's, which alone says nothing" in explain.evidence(
        context, None
    )


def test_a_single_number_that_one_count_alone_explains_is_named():
    ratio = 1 / 72  # 4 * 6 * 3 numbers, and no other count is 72
    cause = _cause(np.asarray(1.7), np.asarray(1.7 * ratio), batch=BATCH)
    assert cause == "JAX's is PyTorch's times 1 / 72, the numbers of array 1 of the batch"


def test_nan_is_shown_with_its_indices_and_the_other_models_number():
    other = X.copy()
    other[1, 4] = np.nan
    cause = _cause(X, other)
    assert cause.startswith("JAX has NaN or infinity there: NaN first at [1, 4], where PyTorch has")


def test_the_logarithm_of_a_negative_number_is_said_to_be_that():
    x = np.abs(X)
    x[2, 2] = -1.0
    with np.errstate(invalid="ignore"):
        cause = _cause(X, np.log(x), sources={"fc": x}, call=_call())
    assert "fc is -1 at [2, 2]" in cause


def _call():
    from twingrad.calls import Call, Key

    return Call(
        key=Key("a"), kind="A", inputs=[], integers=[], outputs=[], input_gradients=[],
        output_gradients=[],
    )  # fmt: skip


def test_numbers_that_go_into_a_layer_are_no_indices():
    from twingrad.calls import Call, Key

    linear = Call(
        key=Key("3"), kind="Linear", inputs=[np.ones((2, 8))], integers=[], outputs=[],
        input_gradients=[], output_gradients=[],
    )  # fmt: skip
    into = Context(
        stage="forward", what="in", torch=np.ones((2, 8)), jax=np.full((2, 8), 1.5),
        before=linear, rows_before=1,
    )  # fmt: skip
    assert not_finite.beyond_table(into) is None
    ids = replace(into, jax=np.full((2, 8), 9.0), before=replace(linear, integers=[np.ones(3)]))
    assert "index 9 at [0, 0] is out of range of a table of 1 rows" in not_finite.beyond_table(ids)
