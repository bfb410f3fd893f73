"""The Markov chain, whose entropy rate is known."""

import json
import math

import numpy as np
import pytest

from shared.corpus import Markov, markov
from tests.helpers.corpora import load_corpus, refused


def test_the_entropy_rate_of_independent_symbols_is_their_entropy():
    p = np.array([0.9, 0.1])
    chain = Markov(probabilities=np.stack([p, p]))
    by_hand = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert abs(chain.entropy_rate - by_hand) < 1e-12
    assert np.allclose(chain.stationary, p, atol=1e-12)


def test_the_entropy_rate_of_two_states_is_known_by_hand():
    # Stays with 3/4 and 1/2: a third of the time in the second state, two thirds in the first.
    chain = Markov(probabilities=np.array([[0.75, 0.25], [0.5, 0.5]]))
    first = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert abs(chain.entropy_rate - (2 / 3 * first + 1 / 3 * math.log(2))) < 1e-12


def test_a_step_keeps_the_stationary_distribution():
    chain = Markov.seeded(5)
    assert np.allclose(chain.stationary @ chain.probabilities, chain.stationary)
    assert abs(chain.stationary.sum() - 1) < 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_chains_own_loss_is_its_entropy_rate(seed):
    chain = Markov.seeded(seed)
    tokens = chain.sample(200_000, seed=9)
    nats = -np.log(chain.probabilities[tokens[:-1], tokens[1:]])
    # Batches of a hundred are all but independent: their spread gives the mean's own.
    batches = nats[: len(nats) // 100 * 100].reshape(-1, 100).mean(axis=1)
    error = batches.std() / math.sqrt(len(batches))
    assert abs(chain.nats(tokens) - nats.mean()) < 1e-12
    assert abs(nats.mean() - chain.entropy_rate) < 5 * error
    assert error < 0.01
    # And it leaves something to learn: far less than the symbols' own entropy.
    alone = -(chain.stationary * np.log(chain.stationary)).sum()
    assert 0.5 < chain.entropy_rate < alone - 0.5 < math.log(16)


def test_the_symbols_come_as_often_as_the_chain_says():
    chain = Markov.seeded(3)
    counts = np.bincount(chain.sample(200_000, seed=1), minlength=16)
    assert np.abs(counts / counts.sum() - chain.stationary).max() < 0.01


def test_a_sample_depends_on_its_seed_alone():
    chain = Markov.seeded(0)
    assert chain.sample(100, 1).dtype == np.uint8
    assert np.array_equal(chain.sample(1000, 1), Markov.seeded(0).sample(1000, 1))
    assert np.array_equal(chain.sample(1000, 1)[:50], chain.sample(50, 1))
    assert not np.array_equal(chain.sample(1000, 1), chain.sample(1000, 2))
    assert [len(chain.sample(n, 1)) for n in range(4)] == [0, 1, 2, 3]


def test_markov_is_two_streams_with_a_known_entropy_rate():
    loaded = load_corpus("markov:7", 16, tokenizer=None)
    chain = Markov.seeded(7)
    assert loaded.entropy_rate == loaded.description["entropy_rate"] == chain.entropy_rate
    assert len(loaded.train) >= 1_000_000
    assert max(loaded.train.max(), loaded.validation.max()) == 15
    n = len(loaded.validation)
    assert not np.array_equal(loaded.train[:n], loaded.validation)
    assert abs(chain.nats(loaded.train[:]) - loaded.entropy_rate) < 0.01
    assert loaded.description["kind"] == "markov"
    assert json.loads(json.dumps(loaded.description)) == loaded.description


def test_markov_without_a_seed_is_that_of_seed_zero(monkeypatch):
    monkeypatch.setattr(markov, "_MARKOV_TOKENS", (1000, 100))
    plain, zero = load_corpus("markov", tokenizer=None), load_corpus("markov:0", tokenizer=None)
    assert np.array_equal(plain.train, zero.train)
    assert plain.description | {"name": ""} == zero.description | {"name": ""}


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5", str(1 << 32)])
def test_a_seed_that_is_none_is_refused(seed):
    refused(f"has seed '{seed}': expected markov:SEED", f"markov:{seed}")


def test_a_vocabulary_without_room_for_the_symbols_is_refused():
    refused("vocab_size is 15: markov has 16 symbols", "markov", 15)
