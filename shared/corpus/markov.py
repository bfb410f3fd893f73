"""A Markov chain as a corpus, whose entropy rate is known in closed form."""

import bisect
import functools
import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer, UInt8

from shared.corpus.tokens import Corpus, joint_digest

MARKOV_SYMBOLS = 16
_MARKOV_TOKENS = 1 << 20, 1 << 16  # to train on, to validate with


@dataclass(frozen=True, kw_only=True, eq=False)
class Markov:
    """A chain in which ``probabilities[a, b]`` is that of symbol b after symbol a.

    No model can have a lower loss than its entropy rate. A lower loss means that the model sees its
    targets; a trained model's loss can be compared with it.
    """

    probabilities: Float[np.ndarray, "K K"]

    @classmethod
    def seeded(cls, seed: int, symbols: int = MARKOV_SYMBOLS, spread: float = 0.25) -> "Markov":
        """A chain whose rows are drawn from Dirichlet(``spread``): the smaller, the sharper."""
        rng = np.random.default_rng([1, seed])
        return cls(probabilities=rng.dirichlet(np.full(symbols, spread), size=symbols))

    @functools.cached_property
    def stationary(self) -> Float[np.ndarray, "K"]:
        """Frequency of each symbol in the long run: the pi with pi P = pi that sums to 1."""
        K = len(self.probabilities)
        equations = np.vstack([self.probabilities.T - np.eye(K), np.ones(K)])
        solution = np.linalg.lstsq(equations, np.eye(K + 1)[-1], rcond=None)[0]
        return np.clip(solution, 0, None)

    @functools.cached_property
    def entropy_rate(self) -> float:
        """-sum pi(a) P(b | a) ln P(b | a), in nats per token (Shannon, 1948)."""
        return float((self.stationary * _entropy(self.probabilities)).sum())

    def sample(self, n: int, seed: int) -> UInt8[np.ndarray, "N"]:
        """``n`` symbols of the chain, the first drawn from its stationary distribution."""
        rng = np.random.default_rng([2, seed])
        symbol = int(rng.choice(len(self.probabilities), p=self.stationary / self.stationary.sum()))
        # One symbol after the other, so in lists, which Python reads faster than arrays.
        sums = np.cumsum(self.probabilities, axis=-1)
        limits = (sums / sums[:, -1:])[:, :-1].tolist()
        symbols = [symbol]
        find, add = bisect.bisect_right, symbols.append
        for uniform in rng.random(max(n - 1, 0)).tolist():
            symbol = find(limits[symbol], uniform)
            add(symbol)
        return np.array(symbols[:n], np.uint8)

    def nats(self, tokens: Integer[np.ndarray, "N"]) -> float:
        """The chain's own mean loss on ``tokens``, in nats per token, from the second on.

        It differs from the entropy rate by chance, and a model's loss does by about the same.
        """
        tokens = np.asarray(tokens).astype(np.int64)
        return float(-np.log(self.probabilities[tokens[:-1], tokens[1:]]).mean())


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropies in nats along the last axis, where 0 ln 0 is 0."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1))
    return -(probabilities * logarithms).sum(axis=-1)


def load_markov(data: str, vocab_size: int) -> Corpus:
    """The corpus ``markov`` or ``markov:SEED``. Raises ``ValueError`` for another seed or size."""
    name, _, seed = data.partition(":")
    if name != data and not (seed.isdecimal() and len(seed) <= 10 and int(seed) < 1 << 32):
        raise ValueError(f"{data} has seed {seed!r}: expected markov:SEED with a whole number")
    if vocab_size < MARKOV_SYMBOLS:
        raise ValueError(
            f"vocab_size is {vocab_size}: {name} has {MARKOV_SYMBOLS} symbols, make it that or more"
        )
    chain = Markov.seeded(int(seed or 0))
    # Two streams, so that validation tokens are not among those trained on.
    train, validation = (chain.sample(n, stream) for stream, n in enumerate(_MARKOV_TOKENS))
    description = {
        "name": data,
        "kind": name,
        "files": 0,
        "bytes": train.nbytes + validation.nbytes,
        "sha256": joint_digest([hashlib.sha256(row.data).digest() for row in (train, validation)]),
        "seed": int(seed or 0),
        "entropy_rate": chain.entropy_rate,
    }
    corpus = Corpus.counted(train, validation, description)
    return replace(corpus, entropy_rate=chain.entropy_rate)
