"""The draw of the next token: from the softmax, cut to its candidates."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from shared import threefry
from shared.sampling import Sampling, candidates, choose
from tests.helpers.decoding import (
    GREEDY,
    PROMPTS,
    texts_of,
    whole_forward,
)

ROOT = Path(__file__).parents[2]


def _assert_drawn_from(chosen, probabilities):
    """Pearson's chi-square, five standard deviations allowed; nothing that is impossible."""
    seen = np.bincount(chosen, minlength=len(probabilities))
    assert not seen[probabilities == 0].any()
    expected = len(chosen) * probabilities
    expected, seen = expected[expected > 5], seen[expected > 5]
    chi_square, freedom = np.sum((seen - expected) ** 2 / expected), len(seen) - 1
    assert freedom > 5
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def _softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def test_first_tokens_are_drawn_from_the_softmax(framework, model):
    made, runtime = model(framework)
    prompt = PROMPTS[1]
    logits = whole_forward(framework, made, runtime)([prompt])[0, len(prompt) - 1]
    chosen = texts_of(framework, made, [prompt] * 4000, Sampling(temperature=3.0), runtime, 1)[:, 0]
    _assert_drawn_from(chosen, _softmax(logits / 3.0))


@pytest.mark.slow("*-1")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("limits", "kept"), [({}, 40), ({"top_k": 12}, 12), ({"top_p": 0.75}, 19)], ids=str
)
def test_draws_at_each_position_follow_the_softmax_of_the_candidates(seed, limits, kept):
    logits = np.random.default_rng(1).permutation(np.linspace(-1, 1, 40))[None]
    asked = Sampling(temperature=0.8, seed=seed, **limits)
    chosen = [choose(logits, asked.noise(p, logits.shape), asked)[0] for p in range(1000)]
    ids = candidates(logits[0] / 0.8, asked.top_k, asked.top_p)
    assert len(ids) == kept
    probabilities = np.zeros(40)
    probabilities[ids] = _softmax(logits[0, ids] / 0.8)
    _assert_drawn_from(np.array(chosen), probabilities)


def test_noise_differs_at_every_position_and_seed():
    drawn = [threefry.gumbel(seed, p, (50,)) for seed in range(5) for p in range(5)]
    for one, other in itertools.combinations(drawn, 2):
        assert not np.intersect1d(one, other).size


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (1, None, [1]),  # of two equals the first
        (3, None, [1, 3, 0]),
        (9, None, [1, 3, 0, 2, 4]),
        (None, 0.25, [1]),
        (None, 0.375, [1]),  # reached, not passed
        (None, 0.376, [1, 3]),
        (None, 0.76, [1, 3, 0]),
        (None, 1.0, [1, 3, 0, 2, 4]),
        (2, 0.5, [1]),  # among the two that are left, each is half
        (2, 0.51, [1, 3]),
    ],
)
def test_candidates_are_the_fewest_that_reach_top_p(top_k, top_p, kept):
    probabilities = np.array([0.125, 0.375, 0.0625, 0.375, 0.0625])
    assert candidates(np.log(probabilities), top_k, top_p).tolist() == kept


def test_the_lowest_id_wins_a_tie():
    flat = np.zeros((2, 6), np.float32)
    assert choose(flat, None, GREEDY).tolist() == [0, 0]
    assert choose(flat, np.zeros((2, 6)), Sampling(top_k=3)).tolist() == [0, 0]


def test_logits_of_any_size_are_chosen_from():
    wide = np.array([[1e300, -1e300, 0.0]])
    for asked in (GREEDY, Sampling(), Sampling(top_k=2, top_p=0.5), Sampling(temperature=1e-300)):
        assert choose(wide, asked.noise(0, wide.shape), asked).tolist() == [0], asked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"temperature": -0.5}, "temperature is -0.5: expected 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan: expected 0 or more"),
        ({"temperature": float("inf")}, "temperature is inf: expected 0 or more"),
        ({"top_k": 0}, "top_k is 0: expected 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0: expected a probability over 0"),
        ({"top_p": 1.1}, "top_p is 1.1: expected a probability over 0"),
        ({"top_p": float("nan")}, "top_p is nan: expected a probability over 0"),
        ({"seed": -1}, "seed is -1: expected a whole number"),
    ],
    ids=str,
)
def test_a_draw_that_makes_no_sense_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        Sampling(**asked)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(wrong):
    logits = np.array([[0.0, wrong]])
    for asked in (GREEDY, Sampling()):
        with pytest.raises(ValueError, match="the logits hold NaN or infinity"):
            choose(logits, asked.noise(0, logits.shape), asked)
