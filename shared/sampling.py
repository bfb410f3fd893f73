"""Choice of the next token from logits, in NumPy and float64, so that both frameworks agree.

Logits of the two frameworks differ in their last bits. The steps that follow, a sort, a sum and a
maximum, are done here once and in float64: two float32 runs then choose differently only where two
candidates, or a sum and ``top_p``, agree in all the digits of float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from shared import threefry


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of the draw: at temperature 0 the likeliest token, else one of ``top_k``, ``top_p``.

    Raises ``ValueError``, naming the field, the value got and what was expected.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature is {self.temperature}: expected 0 or more, where 0 always takes the "
                "likeliest token"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}: expected 1 or more tokens to choose from")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}: expected a probability over 0, at most 1")
        threefry.key(self.seed)  # raises for a seed out of range

    def noise(self, position: int, shape: tuple[int, ...]) -> Float[np.ndarray, "B V"] | None:
        """Gumbel noise for the logits of the token at ``position``; ``None`` at temperature 0."""
        return threefry.gumbel(self.seed, position, shape) if self.temperature > 0 else None


def choose(
    logits: Float[np.ndarray, "B V"], noise: Float[np.ndarray, "B V"] | None, sampling: Sampling
) -> Int[np.ndarray, "B"]:
    """One token id a row: the largest of ``logits / temperature + noise`` among the candidates.

    Without noise it is the largest logit. The lowest id wins a tie. Logits that are NaN or infinite
    are refused with ``ValueError``.
    """
    if not np.isfinite(logits).all():
        raise ValueError(
            "the logits hold NaN or infinity: the parameters are damaged, or too large for the "
            "dtype, so try float32"
        )
    if noise is None:
        return logits.argmax(axis=1)
    # Subtract the largest, so that a low temperature cannot make it overflow.
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        scaled = (wide - wide.max(axis=1, keepdims=True)) / sampling.temperature
    chosen = []
    for row, shift in zip(scaled, noise, strict=True):
        ids = candidates(row, sampling.top_k, sampling.top_p)
        chosen.append(ids[(row[ids] + shift[ids]).argmax()])
    return np.array(chosen)


def candidates(
    scaled: Float[np.ndarray, "V"], top_k: int | None, top_p: float | None
) -> Int[np.ndarray, "N"]:
    """The ids that may be drawn, by falling logit and, for equal logits, by rising id.

    At most ``top_k``, and of these the fewest whose probabilities, normalised over the ``top_k``,
    sum to ``top_p`` (Holtzman et al., 2020); at least one.
    """
    ids = np.arange(len(scaled))
    if top_k is None and top_p is None:
        return ids
    if top_k is not None and top_k < len(ids):
        # A partition: a full sort of the vocabulary costs more than all the rest. Ties stay in.
        ids = np.flatnonzero(scaled >= np.partition(scaled, -top_k)[-top_k])
    ids = ids[np.argsort(-scaled[ids], kind="stable")][:top_k]
    if top_p is not None:
        reached = np.exp(scaled[ids]).cumsum()
        before = np.concatenate([[0.0], reached[:-1]])
        ids = ids[before < top_p * reached[-1]]
    return ids


def pad(
    prompts: Sequence[Sequence[int] | np.ndarray], new_tokens: int, *, vocab_size: int
) -> tuple[Int[np.ndarray, "B N"], Int[np.ndarray, "B"]]:
    """``prompts`` as one int64 array, padded with zeros on the right, and their lengths.

    Raises ``ValueError`` for a number of ``new_tokens`` that is none, and naming the first prompt
    that is empty or holds an id that is no token of the model.
    """
    if isinstance(new_tokens, bool) or not isinstance(new_tokens, int) or new_tokens < 1:
        raise ValueError(f"new tokens are {new_tokens!r}: expected a whole number, 1 or more")
    if not len(prompts):
        raise ValueError("there is no prompt: give at least one")
    rows = [np.asarray(prompt) for prompt in prompts]
    for number, row in enumerate(rows, 1):
        if not row.size:
            raise ValueError(f"prompt {number} is empty: give at least one token to go on from")
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise ValueError(
                f"prompt {number} has dtype {row.dtype} and shape {row.shape}: expected a list of "
                "token ids"
            )
        wrong = row[(row < 0) | (row >= vocab_size)]
        if wrong.size:
            raise ValueError(
                f"prompt {number} holds token {wrong[0]}: expected 0 to {vocab_size - 1}"
            )
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    return tokens, lengths


def append(
    texts: Int[np.ndarray, "B N"], lengths: Int[np.ndarray, "B"], ids: Int[np.ndarray, "B"]
) -> tuple[Int[np.ndarray, "B M"], Int[np.ndarray, "B"]]:
    """``texts``, padded on the right, with one more token each, and their lengths."""
    longer = np.pad(texts, ((0, 0), (0, 1)))
    longer[np.arange(len(ids)), lengths] = ids
    return longer, lengths + 1


def window(
    texts: Int[np.ndarray, "B N"], lengths: Int[np.ndarray, "B"], size: int
) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, "B T"], Int[np.ndarray, "B"]]:
    """The last ``size`` tokens of each text, their positions from 0, and the last one's index."""
    T = min(texts.shape[1], size)
    positions = np.tile(np.arange(T), (len(texts), 1))
    start = np.maximum(lengths - size, 0)
    tokens = np.take_along_axis(texts, start[:, None] + positions, axis=1)
    return tokens, positions, np.minimum(lengths, size) - 1
