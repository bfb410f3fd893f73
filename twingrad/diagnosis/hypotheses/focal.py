"""The focal loss of a sigmoid, by what weighs the two classes, the exponent and the reduction."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.foreign import Array

ALPHAS = (0.25, 0.75, 0.5)
GAMMAS = (2.0, 1.0, 1.5, 0.5)
# Weights of ones and of zeros, by alpha.
_WEIGHTS: dict[str, Callable[[float], tuple[float, float]]] = {
    "alpha for ones and 1 - alpha for zeros": lambda a: (a, 1 - a),
    "alpha for both classes": lambda a: (a, a),
    "alpha for zeros and 1 - alpha for ones": lambda a: (1 - a, a),
    "no alpha": lambda a: (1.0, 1.0),
}


def focal(context: Context) -> Iterator[Hypothesis]:
    """Focal losses of the model's output, where an array of the batch is of ones and zeros."""
    if context.what != "loss" or not context.call or not context.call.outputs:
        return
    logits = context.call.outputs[0]
    for target in context.batch:
        if target.shape == logits.shape and bool(np.isin(target, (0, 1)).all()) and logits.size:
            yield from _losses(logits.astype(np.float64), target.astype(np.float64))


def _losses(z: Array, y: Array) -> Iterator[Hypothesis]:
    p = 1 / (1 + np.exp(-z))
    cross_entropy = np.logaddexp(0, z) - z * y
    miss = y * (1 - p) + (1 - y) * p
    for gamma, alpha in itertools.product(GAMMAS, ALPHAS):
        for words, weigh in _WEIGHTS.items():
            ones, zeros = weigh(alpha)
            each = (ones * y + zeros * (1 - y)) * miss**gamma * cross_entropy
            name = f"a focal loss of gamma {gamma:g}, alpha {alpha:g}: {words}"
            yield name, np.asarray(each.mean())
            yield f"{name}, the sum", np.asarray(each.sum())
            yield f"{name}, the sum divided by the ones", np.asarray(each.sum() / max(y.sum(), 1))
