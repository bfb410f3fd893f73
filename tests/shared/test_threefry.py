"""The shared generator: Threefry, as its authors and as JAX compute it."""

import numpy as np
import pytest

from bench.harness import frameworks
from shared import threefry

# Known answers that the authors publish with their code (Random123, threefry2x32 with 20 rounds).
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]
needs_jax = pytest.mark.skipif(not frameworks.installed("jax"), reason="jax is not installed")


def _words(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
def test_the_cipher_gives_the_published_answers(key, counter, answer):
    high, low = (_words(word) for word in counter)
    made = threefry.encipher(threefry.schedule(_words(*key)), high, low)
    assert [int(word[0]) for word in made] == list(answer)


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
def test_signed_words_give_the_same_bits(key, counter, answer):
    high, low = (_words(word).view(np.int32) for word in counter)
    made = threefry.encipher(threefry.schedule(_words(*key)).view(np.int32), high, low)
    assert [int(word.view(np.uint32)[0]) for word in made] == list(answer)


@needs_jax
@pytest.mark.parametrize("seed", [0, 1, 123456, 2**32 - 1])
@pytest.mark.parametrize("size", [0, 1, 2, 1000, 70_000])
def test_bits_are_those_of_jax(seed, size):
    import jax

    theirs = jax.random.bits(jax.random.key(np.uint32(seed)), (size,), np.uint32)
    assert (threefry.bits(threefry.key(seed), size) == np.asarray(theirs)).all()


@needs_jax
def test_folding_in_is_that_of_jax():
    import jax

    theirs = jax.random.fold_in(jax.random.key(7), 99)
    ours = threefry.fold_in(threefry.key(7), 99)
    assert (ours == np.asarray(jax.random.key_data(theirs))).all()


def test_every_step_micro_batch_and_layer_has_its_own_key():
    keys = [
        tuple(key)
        for seed in range(3)
        for step in range(10)
        for micro_batch in range(4)
        for key in threefry.dropout_keys(seed, step, micro_batch, 25).tolist()
    ]
    assert len(set(keys)) == len(keys) == 3 * 10 * 4 * 25


def test_a_model_without_dropout_has_no_keys():
    assert threefry.dropout_keys(0, 0, 0, 0).shape == (0, 2)


def test_noise_is_gumbel_distributed():
    noise = threefry.gumbel(3, 0, (200_000,))
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var() == pytest.approx(np.pi**2 / 6, rel=0.02)


def test_noise_depends_on_seed_and_position_alone():
    assert (threefry.gumbel(1, 2, (3, 4)).ravel() == threefry.gumbel(1, 2, (12,))).all()
    assert (threefry.gumbel(1, 2, (12,)) != threefry.gumbel(1, 3, (12,))).all()
    assert (threefry.gumbel(1, 2, (12,)) != threefry.gumbel(2, 2, (12,))).all()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_jax_would_cut_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}: expected a whole number from 0"):
        threefry.key(seed)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_words_under_the_threshold_is_the_rate(rate):
    words = threefry.bits(threefry.key(5), 400_000) >> 8
    assert (words < threefry.threshold(rate)).mean() == pytest.approx(rate, abs=0.003)
