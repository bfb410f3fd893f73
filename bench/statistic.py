"""What is said of samples: medians, quartiles, ratios with an interval, exponents of growth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# How often samples are drawn anew for an interval, and the share of those draws it covers.
RESAMPLED = 2000
COVERED = 0.95
# Allowed for on either side of an interval: the same contestant in another process is apart by
# something that no samples of one process show.
SPREAD = 0.05


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.quantile(np.asarray(samples), (0.25, 0.5, 0.75))
    return {"median_s": float(middle), "quartile_low_s": float(low), "quartile_high_s": float(high)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The ratio of two medians, and the interval that it lies in.

    Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
    13.3), seeded, so that anyone gets the same interval from the same samples, widened by
    ``SPREAD`` on either side.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    random = np.random.default_rng(0)
    drawn = [
        np.median(part[random.integers(len(part), size=(RESAMPLED, len(part)))], axis=1)
        for part in (a, b)
    ]
    tail = (1 - COVERED) / 2
    low, high = np.quantile(drawn[0] / drawn[1], (tail, 1 - tail))
    middle = float(np.median(a) / np.median(b))
    return {
        "ratio": middle,
        "low": float(min(low, middle) / (1 + SPREAD)),
        "high": float(max(high, middle) * (1 + SPREAD)),
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
