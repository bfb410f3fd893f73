"""A default that differs: its two values, its effect, and what ends it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twingrad import numerics


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A default that differs.

    ``effect`` says what the difference does, ``size`` how large it is, relative (L2) unless the
    words say otherwise, and ``left`` what is left of it when ``how`` is followed.
    """

    topic: str
    torch: str
    jax: str
    effect: str
    size: float
    left: float
    how: str


def distance(expected: ArrayLike, result: ArrayLike) -> float:
    """The relative distance of two results; infinite where only one is finite."""
    exact, other = (np.asarray(x, np.float64) for x in (expected, result))
    scale = numerics.size(exact).l2
    return float(numerics.distance(exact, other).l2 / scale) if scale else float("inf")


def values(*shape: int) -> NDArray[np.float64]:
    """Normal numbers, the same each time."""
    return np.random.default_rng(0).normal(size=shape)
