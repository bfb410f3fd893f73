"""Random bits that both frameworks can draw: JAX's own generator, written in NumPy.

Threefry-2x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is a block
cipher without state: a key and a counter go in, two random words come out. JAX numbers the elements
of an array and enciphers these numbers, with ``jax_threefry_partitionable`` as by default, so that
``bits(key, n)`` is ``jax.random.bits(key, (n,))``, bit for bit.
"""

import numpy as np
from jaxtyping import Float, UInt32

from shared.arrays import AnyArray

Key = UInt32[np.ndarray, "2"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA  # xor of the three words that are added in turn
_WORD = 0xFFFFFFFF
_BLOCK = 1 << 16  # counters enciphered at once: few enough to stay in the cache

# Purposes of random numbers: a key is folded with one of these before use.
DROPOUT, SAMPLING = 0, 1


def key(seed: int) -> Key:
    """The key of ``seed``, a number of 32 bits, as ``jax.random.key(seed)`` makes it.

    Wider seeds are refused with ``ValueError``: without x64, JAX would drop their upper half.
    """
    if not 0 <= seed <= _WORD:
        raise ValueError(f"seed is {seed}: expected a whole number from 0 to {_WORD}")
    return np.array([0, seed], np.uint32)


def fold_in(key: Key, data: int) -> Key:
    """A key of its own for ``data``, a number of 32 bits: ``jax.random.fold_in``."""
    words = encipher(schedule(key), np.zeros(1, np.uint32), np.full(1, data, np.uint32))
    return np.concatenate(words)


def schedule(key: Key) -> UInt32[np.ndarray, "3"]:
    """The three words that the cipher adds in turn: the key's two, and their parity."""
    return np.array([*key, key[0] ^ key[1] ^ np.uint32(PARITY)], np.uint32)


def encipher(words: AnyArray, high: AnyArray, low: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Threefry-2x32 of the counters ``high * 2**32 + low``, which are overwritten.

    ``words`` is a key's ``schedule``. The arrays hold 32-bit integers that wrap around, signed or
    not, of NumPy or PyTorch, on any device.
    """
    high += words[0]
    low += words[1]
    for i in range(5):
        for distance in _ROTATIONS[i % 2]:
            high += low
            # The mask makes the shift of a signed number an unsigned one.
            wrapped = (low >> (32 - distance)) & ((1 << distance) - 1)
            low <<= distance
            low |= wrapped
            low ^= high
        high += words[(i + 1) % 3]
        low += words[(i + 2) % 3]
        low += i + 1
    return high, low


def bits(key: Key, size: int, first: int = 0) -> UInt32[np.ndarray, "N"]:
    """``size`` random words of ``jax.random.bits(key, ...)``, from number ``first`` on."""
    words = schedule(key)
    drawn = np.empty(size, np.uint32)
    for start in range(0, size, _BLOCK):
        counters = first + np.arange(start, min(start + _BLOCK, size), dtype=np.uint64)
        high, low = (counters >> 32).astype(np.uint32), counters.astype(np.uint32)
        high, low = encipher(words, high, low)
        np.bitwise_xor(high, low, out=drawn[start : start + _BLOCK])
    return drawn


def dropout_keys(seed: int, step: int, micro_batch: int, sites: int) -> UInt32[np.ndarray, "S 2"]:
    """A key for each of ``sites`` dropout layers, for one micro-batch of one training step.

    A function of its arguments alone: a resumed run needs no generator's state.
    """
    if not sites:
        return np.zeros((0, 2), np.uint32)
    at_step = fold_in(fold_in(key(seed), DROPOUT), step)
    at_batch = fold_in(at_step, micro_batch)
    # As folding in one site after the other, all at once.
    numbers = np.arange(sites, dtype=np.uint32)
    words = encipher(schedule(at_batch), np.zeros_like(numbers), numbers)
    return np.stack(words, axis=1)


def threshold(rate: float) -> int:
    """The number that the upper 24 bits of a random word are below with probability ``rate``."""
    return round(rate * (1 << 24))


def gumbel(seed: int, position: int, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Standard Gumbel noise, float64, for the token at ``position`` of a text sampled by ``seed``.

    The largest of ``logits + noise`` is a draw from their softmax (Gumbel, 1954), so that equal
    noise means equal text wherever the logits are equal but for rounding.
    """
    stream = fold_in(fold_in(key(seed), SAMPLING), position)
    words = bits(stream, int(np.prod(shape, dtype=int)))
    uniform = (words.astype(np.float64) + 0.5) / (1 << 32)  # never 0, never 1
    return -np.log(-np.log(uniform)).reshape(shape)
