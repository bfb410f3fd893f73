"""Statistics of timing samples: medians, quartiles, ratios with intervals, exponents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

# How often samples are drawn anew for an interval, and the share of repeated calls it is to hold.
# Not the usual 95 %: in a table of sixty ratios, three would be off.
RESAMPLED = 2000
COVERED = 0.99
# Added on either side of an interval where each contestant had one process: another process differs
# by something that no samples of one process show.
SPREAD = 0.05
# The largest logarithm of a ratio that is written down.
_LARGEST = 69.0
# Processes of a contestant from which the spread between processes can be estimated.
STARTS = 3


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of samples."""

    median_s: float
    quartile_low_s: float
    quartile_high_s: float


@dataclass(frozen=True)
class Interval:
    """A ratio, and the interval in which a repeated call's ratio lies."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """The p of ``seconds ~ size**p``, and the R² of its fit."""

    exponent: float
    r_squared: float


def summary(samples: Sequence[float]) -> Summary:
    """Median and quartiles."""
    low, middle, high = np.quantile(np.asarray(samples), (0.25, 0.5, 0.75))
    return Summary(float(middle), float(low), float(high))


def ratio(
    numerator: Mapping[int, Sequence[float]],
    denominator: Mapping[int, Sequence[float]],
    covered: float = COVERED,
    spread: float = SPREAD,
) -> Interval:
    """The ratio of two medians, and the interval in which a repeated call's ratio lies.

    Both are seconds by the number of their process: in one round of processes, each contestant has
    a process of its own, and they take turns. With ``STARTS`` rounds or more, a round is what
    repeats: the interval is the prediction interval for the mean of as many further log ratios,
    normal with unknown variance (Hahn and Meeker, Statistical Intervals, 1991, section 4.7). A
    bootstrap over so few is too narrow (Hesterberg, What Teachers Should Know about the Bootstrap,
    2015). With fewer, it is a percentile bootstrap over the samples (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, section 13.3), seeded, so that anyone gets the same
    interval, and widened by ``spread`` on either side.
    """
    a, b = (np.concatenate([*map(np.asarray, part.values())]) for part in (numerator, denominator))
    middle = float(np.median(a) / np.median(b))
    starts = sorted(numerator.keys() & denominator.keys())
    if len(starts) >= STARTS:
        logs = np.log([np.median(numerator[n]) / np.median(denominator[n]) for n in starts])
        quantile = stdtrit(len(logs) - 1, (1 + covered) / 2)
        half = float(quantile * logs.std(ddof=1) * np.sqrt(2 / len(logs)))
        centre = float(logs.mean())
        low, high = np.exp(np.clip((centre - half, centre + half), -_LARGEST, _LARGEST))
        return Interval(middle, float(min(low, middle)), float(max(high, middle)))
    random = np.random.default_rng(0)
    drawn = [
        np.median(part[random.integers(len(part), size=(RESAMPLED, len(part)))], axis=1)
        for part in (a, b)
    ]
    tail = (1 - covered) / 2
    low, high = np.quantile(drawn[0] / drawn[1], (tail, 1 - tail))
    low, high = min(low, middle) / (1 + spread), max(high, middle) * (1 + spread)
    return Interval(middle, float(low), float(high))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> PowerLaw:
    """The power law of ``seconds`` in ``sizes``, by least squares on logarithms."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    slope, start = np.polyfit(x, y, 1)
    residual = y - (slope * x + start)
    spread = float(((y - y.mean()) ** 2).sum())
    r_squared = 1 - float((residual**2).sum()) / spread if spread else 1.0
    return PowerLaw(float(slope), r_squared)


def close(value: float, expected: float, relative: float = 1e-9) -> bool:
    """Whether ``value`` is ``expected`` to within ``relative`` of it."""
    return bool(np.isclose(value, expected, rtol=relative, atol=0.0))


def first_difference(
    values: object, expected: "Summary | Interval | PowerLaw", relative: float = 1e-9
) -> str | None:
    """The first field of ``expected`` that ``values`` has otherwise; None if there is none."""
    for name, right in vars(expected).items():
        if not close(getattr(values, name), right, relative):
            return str(name)
    return None
