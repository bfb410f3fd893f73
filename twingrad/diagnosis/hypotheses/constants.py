"""Ratios of two numbers that say something: counts of a batch, and constants with a name.

A number is any other one times a factor. Only a factor that somebody could have written, or left
out, explains a difference.
"""

import math
from collections.abc import Iterator

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context

NEAR = 1e-9  # how closely, relatively, a ratio must meet a constant
_CONSTANTS = (2.0, 3.0, 4.0, 10.0, 100.0, math.log(2), math.log(10), math.pi, 2 * math.pi)


def named(ratio: float, context: Context) -> bool:
    """Whether ``ratio`` is -1, a constant with a name, or a ratio of two counts of the batch."""
    if not math.isfinite(ratio) or ratio == 0:
        return False
    if ratio < 0:
        return _near(ratio, -1.0)
    counts = sorted({1.0, *_counts(context)})
    candidates = (*_CONSTANTS, *(p / q for p in counts for q in counts if p != q))
    return any(_near(ratio, c) or _near(ratio, 1 / c) for c in candidates)


def _near(ratio: float, constant: float) -> bool:
    return abs(ratio - constant) <= NEAR * abs(constant)


def _counts(context: Context) -> Iterator[float]:
    """Sizes of the batch's arrays and of the features: axes, their products, what is not masked."""
    arrays = [*context.batch, *([] if context.features is None else [context.features])]
    for array in arrays:
        for start in range(array.ndim):
            for end in range(start + 1, array.ndim + 1):
                yield float(max(math.prod(array.shape[start:end]), 1))
        if array.ndim > 1:
            yield float(max(array.shape[0] * (array.shape[1] - 1), 1))
        if array.dtype.kind in "iu":
            yield float(max(int((array >= 0).sum()), 1))
        if array.dtype.kind in "iub":
            yield float(max(int(np.count_nonzero(array)), 1))
