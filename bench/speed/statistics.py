"""What is said of samples: medians, quartiles, ratios with an interval, exponents of growth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

# How often samples are drawn anew for an interval, and the share of repeated calls it is to hold.
# Not the usual 95 %: in a table of sixty ratios, three would be off.
RESAMPLED = 2000
COVERED = 0.99
# Allowed for on either side of an interval where each contestant had one process: in another it is
# apart by something that no samples of one process show.
SPREAD = 0.05
# The largest logarithm of a ratio that is written down.
_LARGEST = 69.0
# Processes of a contestant from which their own spread is taken.
STARTS = 3


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.quantile(np.asarray(samples), (0.25, 0.5, 0.75))
    return {"median_s": float(middle), "quartile_low_s": float(low), "quartile_high_s": float(high)}


def ratio(
    ours: Mapping[int, Sequence[float]],
    theirs: Mapping[int, Sequence[float]],
    covered: float = COVERED,
    spread: float = SPREAD,
) -> dict[str, float]:
    """The ratio of two medians, and the interval in which a repeated call's ratio lies.

    Both are seconds by the start that they come from: in one start, each contestant has a process
    of its own, and they take turns. With ``STARTS`` starts or more, a start is what repeats: the
    interval is the prediction interval for the mean of as many further log ratios, normal with
    unknown variance (Hahn and Meeker, Statistical Intervals, 1991, section 4.7). A bootstrap over
    so few is too narrow (Hesterberg, What Teachers Should Know about the Bootstrap, 2015). With
    fewer, it is a percentile bootstrap over the samples (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, section 13.3), seeded, so that anyone gets the same interval, and widened
    by ``spread`` on either side.
    """
    a, b = (np.concatenate([*map(np.asarray, part.values())]) for part in (ours, theirs))
    middle = float(np.median(a) / np.median(b))
    starts = sorted(ours.keys() & theirs.keys())
    if len(starts) >= STARTS:
        logs = np.log([np.median(ours[n]) / np.median(theirs[n]) for n in starts])
        quantile = stdtrit(len(logs) - 1, (1 + covered) / 2)
        half = float(quantile * logs.std(ddof=1) * np.sqrt(2 / len(logs)))
        centre = float(logs.mean())
        low, high = np.exp(np.clip((centre - half, centre + half), -_LARGEST, _LARGEST))
        return {"ratio": middle, "low": float(min(low, middle)), "high": float(max(high, middle))}
    random = np.random.default_rng(0)
    drawn = [
        np.median(part[random.integers(len(part), size=(RESAMPLED, len(part)))], axis=1)
        for part in (a, b)
    ]
    tail = (1 - covered) / 2
    low, high = np.quantile(drawn[0] / drawn[1], (tail, 1 - tail))
    return {
        "ratio": middle,
        "low": float(min(low, middle) / (1 + spread)),
        "high": float(max(high, middle) * (1 + spread)),
    }


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """The p of ``seconds ~ size**p``, by least squares on logarithms, and its R²."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    slope, start = np.polyfit(x, y, 1)
    left = y - (slope * x + start)
    spread = float(((y - y.mean()) ** 2).sum())
    fits = 1 - float((left**2).sum()) / spread if spread else 1.0
    return {"exponent": float(slope), "r_squared": fits}


def close(found: dict[str, Any], wanted: dict[str, float], relative: float = 1e-9) -> str | None:
    """The first key of ``wanted`` that ``found`` does not hold to ``relative``; None if none."""
    for key, value in wanted.items():
        if not np.isclose(found[key], value, rtol=relative, atol=0.0):
            return key
    return None
