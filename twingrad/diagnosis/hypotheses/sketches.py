"""What changed operations would give, kept as a few numbers each, for where PyTorch is not.

A tensor's sketch is its products with fixed random vectors. Two tensors that are apart have other
sketches, so that a tensor of JAX's can be told from one that PyTorch would give, without either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from twingrad.calls import Key
from twingrad.diagnosis.finding import Cause
from twingrad.diagnosis.hypotheses import choice
from twingrad.foreign import Array

NUMBERS = 6  # of a sketch
MOST = 1 << 20  # numbers of a tensor that is sketched
# A product of a vector of length 1 is this large at most, but once in 10^8 times.
LARGEST = 6.0


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A changed operation: its kind's rank, what PyTorch computes and what JAX would in words.

    ``is_arithmetic`` marks arithmetic by a constant.
    """

    rank: int
    torch: str
    jax: str
    is_arithmetic: bool


@dataclass(frozen=True, kw_only=True)
class SiteSketch:
    """One tensor: a call's input or output by number, or a parameter or its gradient by name.

    ``own`` is the sketch of PyTorch's, and ``rows`` has one for each of the ``guesses``.
    """

    way: Literal["in", "out", "parameter"]
    key: Key
    name: str
    shape: tuple[int, ...]
    own: Array
    guesses: list[Guess]
    rows: Array


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A module, or the loss, that was run again by itself, forward or backward.

    ``given`` are the calls within it that were not run, and gave what they gave in the pass.
    """

    owner: Key
    given: list[Key]
    backward: bool
    sites: list[SiteSketch]


@lru_cache(maxsize=4)
def _vectors(size: int) -> Array:
    return np.random.default_rng(size).normal(size=(NUMBERS, size))


def sketch(x: Array) -> Array:
    """The sketch of ``x``, which has at most ``MOST`` real numbers."""
    return np.asarray(_vectors(x.size) @ x.ravel().astype(np.float64))


def is_same(sketched: Array, x: Array, near: float) -> bool:
    """Whether ``sketched`` is the sketch of ``x``, to a relative distance of ``near``."""
    apart = np.abs(sketched - sketch(x)).max(initial=0.0)
    return bool(apart <= LARGEST * near * np.linalg.norm(x.ravel()))


@dataclass(frozen=True)
class Sketched:
    """The guesses at one place, where JAX's tensor lies as PyTorch's."""

    site: SiteSketch
    jax: Array

    def cause(self, torch: Array, jax: Array, near: float) -> Cause | None:
        """The one change that turns PyTorch's numbers into JAX's, if there is one."""
        return choice.chosen(self._candidates(near), torch, jax, near)

    def _candidates(self, near: float) -> Iterator[choice.Candidate]:
        for guess, row in zip(self.site.guesses, self.site.rows, strict=True):
            words = (guess.torch, guess.jax)

            def fits(row: Array = row) -> bool:
                return is_same(row, self.jax, near)

            yield guess.rank, words, guess.is_arithmetic, fits
