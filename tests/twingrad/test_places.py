"""Places over their limit: which of float32's are rounded, where the work is divided otherwise."""

from unittest import mock

import numpy as np
import pytest

from twingrad import numerics
from twingrad.calls import Key
from twingrad.diagnosis.hypotheses import relations
from twingrad.diagnosis.hypotheses.context import Context
from twingrad.diagnosis.places import Place, rounded_too_much
from twingrad.diagnosis.replay import Divergence

RANDOM = np.random.default_rng(0)
TORCH, JAX = RANDOM.normal(size=(2, 4, 6))
SINGLE = np.float32


def _place(torch, jax, name="input of block.1"):
    divergence = Divergence(
        stage="forward", what="in", owner=Key("block"), name=name, torch=torch, jax=jax,
        scale=numerics.size(torch),
    )  # fmt: skip
    return Place(replay=mock.sentinel.replay, divergence=divergence)


def test_where_the_work_is_divided_otherwise_each_side_is_held_against_its_own_float64():
    divided = [_place(TORCH, JAX)]
    rounded = _place(TORCH.astype(SINGLE), JAX.astype(SINGLE))
    assert rounded_too_much([rounded], divided) == []


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_a_lower_precision_is_seen_there_too(side):
    divided = [_place(TORCH, JAX)]
    both = {"torch": TORCH.astype(SINGLE), "jax": JAX.astype(SINGLE)}
    both[side] = both[side].astype(np.float16).astype(SINGLE)
    place = _place(**both)
    assert rounded_too_much([place], divided) == [place]


def test_a_place_that_float64_does_not_have_counts():
    place = _place(TORCH.astype(SINGLE), JAX.astype(SINGLE), name="output of block.1")
    assert rounded_too_much([place], [_place(TORCH, JAX)]) == [place]


def test_where_both_lose_digits_by_what_they_compute_neither_is_at_fault():
    noise = 1e-5 * RANDOM.normal(size=(2, *TORCH.shape))
    lost = _place(*(TORCH + noise).astype(SINGLE))
    assert rounded_too_much([lost], [_place(TORCH, TORCH)]) == []
    alone = _place(*(TORCH + noise * np.array([10, 1])[:, None, None]).astype(SINGLE))
    assert rounded_too_much([alone], [_place(TORCH, TORCH)]) == [alone]


def test_masks_of_the_lowest_number_do_not_hide_that_two_tensors_differ():
    hidden = np.triu(np.full((3, 5, 5), np.finfo(SINGLE).min), 1)
    torch = RANDOM.normal(size=(3, 5, 5)).astype(SINGLE)
    jax = (RANDOM.normal(size=(3, 5, 5)) + hidden).astype(SINGLE)
    context = Context(stage="forward", what="in", torch=torch, jax=jax, dtype="float32")
    assert relations.relation(context) is None
