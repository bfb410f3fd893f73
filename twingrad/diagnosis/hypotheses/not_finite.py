"""NaN and infinity: the first number that is one, and what it is computed from."""

import numpy as np

from twingrad.diagnosis.hypotheses.context import Context
from twingrad.foreign import Array


def not_finite(context: Context) -> str | None:
    """Which model has NaN or infinity where the other has a number, and why, if that shows."""
    for name, x, other in (
        ("PyTorch", context.torch, context.jax),
        ("JAX", context.jax, context.torch),
    ):
        bad = ~np.isfinite(x)
        if not bad.any() or x.ndim == 0:
            continue
        where = np.unravel_index(int(np.argmax(bad)), x.shape)
        what = "NaN" if np.isnan(x[where]) else "infinity"
        place = ", ".join(map(str, map(int, where)))
        text = f"{name} has NaN or infinity there: {what} first at [{place}]"
        if other.shape == x.shape and np.isfinite(other[where]):
            elsewhere = "PyTorch" if name == "JAX" else "JAX"
            text += f", where {elsewhere} has {other[where]:.6g}"
        reason = _reason(context, bad)
        return text + (f"; {reason}" if reason else "")
    return None


def _reason(context: Context, bad: Array) -> str | None:
    """What the numbers are computed from that makes them so."""
    out_of_range = beyond_table(context)
    if out_of_range:
        return out_of_range
    call = context.call
    if call is None:
        return None
    if context.stage == "forward":
        for source, x in context.sources.items():
            if x.shape == bad.shape and bool((x[bad] == 0).all()):
                return f"{source} is 0 there"
            if x.shape == bad.shape and bool((x[bad] < 0).all()):
                return f"{source} is negative there"
        return None
    for x in (*call.inputs, *call.outputs):
        for norm in _vanishing(x):
            return norm
    return "the gradient of a root, norm or logarithm at 0 is not finite"


def _vanishing(x: Array) -> list[str]:
    """Sentences about vectors and differences of vectors that are exactly 0."""
    if x.ndim < 2:
        return []
    if (np.abs(x).max(-1) == 0).any():
        return ["a vector that is all 0 goes through it, where a norm has no gradient"]
    return []


def beyond_table(context: Context) -> str | None:
    """An index that the table of this call does not have, which JAX clamps or fills with NaN."""
    table = context.values.get("weight")
    if context.before is not None and context.what == "in":
        if not context.before.integers or not np.array_equal(context.jax, np.rint(context.jax)):
            return None  # what goes in are no indices
        ids = context.jax
        rows = context.rows_before
    elif context.call is not None and context.call.integers and table is not None:
        ids, rows = context.call.integers[0], len(table)
    else:
        return None
    if rows is None or ids.size == 0 or not ids.max() >= rows:
        return None
    return (
        f"index {int(ids.max())} is out of range of a table of {rows} rows: "
        "PyTorch raises, JAX clamps it or gives NaN"
    )
