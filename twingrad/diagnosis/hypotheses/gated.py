"""Gated linear units: the activation of one source times another, and which of them is which."""

import itertools
from collections.abc import Iterator

from twingrad.diagnosis.hypotheses.context import Context, Hypothesis
from twingrad.diagnosis.hypotheses.layers import ACTIVATIONS

MOST = 6  # sources of such a shape


def gated(context: Context) -> Iterator[Hypothesis]:
    """A product of two sources, one of them through an activation.

    Source: Shazeer, GLU Variants Improve Transformer, 2020, equations 5 and 6.
    """
    sources = context.same_shape()
    if not 2 <= len(sources) <= MOST:
        return
    for gate, x in sources.items():
        for name, function in ACTIVATIONS.items():
            activated = function(x)
            for other, y in sources.items():
                if other != gate:
                    yield f"{name} of {gate} times {other}", activated * y
    for (one, x), (other, y) in itertools.combinations(sources.items(), 2):
        yield f"{one} times {other}, without an activation", x * y
