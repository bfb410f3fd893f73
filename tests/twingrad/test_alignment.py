"""Tensors of two calls are matched by their numbers, whatever their order and layout."""

import numpy as np
import pytest

from twingrad.alignment import Placed, placed

RANDOM = np.random.default_rng(0)
X, H = RANDOM.normal(size=(2, 3, 4)), RANDOM.normal(size=(2, 3, 4))


def matched(torch, jax, known=True, channels_last=False):
    shapes = [x.shape for x in jax]
    return placed(torch, shapes, jax if known else None, channels_last, "float64")


def test_inputs_in_another_order_are_matched_by_their_numbers():
    assert [m.sources for m in matched([X, H], [H, X])] == [(1,), (0,)]
    assert [m.sources for m in matched([X, H], [H, X], known=False)] == [(0,), (1,)]


@pytest.mark.parametrize(
    "lie",
    [
        lambda x: x.transpose(0, 2, 1),
        lambda x: x.reshape(2, 3, 2, 2),  # heads cut out of the width
        lambda x: x.transpose(1, 0, 2),  # time first
        lambda x: x.reshape(6, 4),
        lambda x: x[:, None],
    ],
)
def test_a_layout_is_found_by_the_numbers(lie):
    gradient = RANDOM.normal(size=X.shape)
    (match,) = matched([X], [lie(X)])
    np.testing.assert_array_equal(match.value([X]), lie(X))
    np.testing.assert_array_equal(match.gradient([gradient]), lie(gradient))


def test_numbers_in_another_order_where_the_shape_fits_are_no_layout():
    square = RANDOM.normal(size=(2, 3, 3))
    (match,) = matched([square], [square.transpose(0, 2, 1)])
    assert match.axes == (0, 1, 2)


def test_one_tensor_given_three_times_is_one_and_its_gradients_are_added():
    (match,) = matched([X, X.copy(), X], [X])
    assert match.sources == (0, 1, 2)
    np.testing.assert_array_equal(match.gradient([X, 2 * X, 3 * X]), 6 * X)


def test_what_one_model_alone_is_given_has_no_match():
    mask = np.ones((3, 3))
    assert matched([X], [X, mask])[1] is None
    assert [m.sources for m in matched([X, mask], [X])] == [(0,)]
    assert matched([X], [H[:, :2]]) == [None]


def test_numbers_that_differ_are_matched_by_position_and_shape():
    assert matched([X], [H]) == [Placed((0,), (0, 1, 2), X.shape)]
    images = RANDOM.normal(size=(2, 3, 5, 4))
    (match,) = matched([images], [np.zeros((2, 5, 4, 3))], channels_last=True)
    assert match.axes == (0, 2, 3, 1)


def test_a_bias_with_the_mask_in_it_is_not_one_beside_which_the_mask_is_handed_on():
    bias = RANDOM.normal(size=(1, 3, 5, 5))
    lowest = np.finfo(np.float32).min
    masked = bias + np.triu(np.full((5, 5), lowest), 1)
    assert matched([bias], [masked]) == [None]
    # What PyTorch hides and JAX does not is compared: a mask may have been forgotten.
    assert matched([masked], [bias])[0].sources == (0,)
    assert matched([masked], [masked + 1])[0].sources == (0,)
    assert matched([X], [np.full(X.shape, lowest)])[0].sources == (0,)


def test_numbers_whose_squares_float32_cannot_hold_are_compared_all_the_same():
    lowest = np.triu(np.full((5, 5), np.finfo(np.float32).min), 1)
    bias, other = (RANDOM.normal(size=(1, 3, 5, 5)).astype(np.float32) for _ in range(2))
    matches = placed([bias, other], [other.shape], [other + lowest], False, "float32")
    assert matches == [None]
    matches = placed([bias + lowest, other], [other.shape], [other], False, "float32")
    assert matches[0].sources == (1,)
