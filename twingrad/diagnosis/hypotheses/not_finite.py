"""NaN and infinity: the first number that is one, and what it is computed from."""

from collections.abc import Mapping

import numpy as np

from twingrad.diagnosis.hypotheses import elements
from twingrad.diagnosis.hypotheses.context import Context
from twingrad.foreign import Array

# A gradient of these is not finite where the value is 0.
AT_ZERO = "where the gradient of a root, norm, power or logarithm is not finite"


def not_finite(context: Context) -> str | None:
    """Which model has NaN or infinity where the other has a number, and why, if that shows."""
    for name, x, other in (
        ("PyTorch", context.torch, context.jax),
        ("JAX", context.jax, context.torch),
    ):
        alike = other.shape == x.shape
        # What is NaN in both is none of the one's.
        bad = ~np.isfinite(x) & (np.isfinite(other) if alike else True)
        if not bad.any():
            continue
        where = elements.first(bad)
        what = "NaN" if np.isnan(x[where]) else "infinity"
        text = f"{name} has NaN or infinity there: {what} first{elements.at(where)}"
        text = text if x.ndim else f"{name}'s is {what}"
        if alike:
            elsewhere = "PyTorch" if name == "JAX" else "JAX"
            text += f", where {elsewhere} has {other[where]:.6g}"
        reason = _reason(context, np.asarray(bad), name)
        return text + (f"; {reason}" if reason else "")
    return None


def _reason(context: Context, bad: Array, framework: str) -> str | None:
    """What the numbers are computed from that makes them so."""
    out_of_range = beyond_table(context) or _beyond(context, bad)
    if out_of_range:
        return out_of_range
    if context.stage == "forward":
        return elements.element(bad, {**context.sources, **own_parameters(context.values)})
    call = context.call
    tensors = {} if call is None else {"its input": call.inputs[:1], "its output": call.outputs[:1]}
    here = {name: x for name, xs in tensors.items() for x in xs}
    for name, x in {**here, **context.nearby}.items():
        vanishing = _vanishing(x)
        if vanishing:
            return f"{name} {vanishing}, {AT_ZERO}"
    return f"the gradient of a root, norm or logarithm at 0 is not finite ({framework} has one)"


def own_parameters(values: Mapping[str, Array]) -> dict[str, Array]:
    """Those parameters that hold NaN or infinity themselves, by name as a sentence has it."""
    return {f"its {name}": x for name, x in values.items() if not np.isfinite(x).all()}


def _vanishing(x: Array) -> str | None:
    """Where a number, or a whole vector of two or more, is exactly 0; None if there is none."""
    zero = x == 0
    if x.ndim > 1 and x.shape[-1] > 1:
        rows = zero.all(-1)
        return f"is 0 throughout{elements.at(elements.first(rows))}" if rows.any() else None
    return f"is 0{elements.at(elements.first(zero))}" if zero.any() and not zero.all() else None


def _beyond(context: Context, bad: Array) -> str | None:
    """An index of JAX's call, or a target of the loss, that is out of range."""
    is_loss = context.what == "loss"
    integers = {f"{{index}} in array {n} of the batch": x for n, x in enumerate(context.batch)}
    if is_loss and context.features is not None and context.features.ndim:
        classes = context.features.shape[-1]
        said = elements.index(bad, integers, classes, "{rows} classes")
    elif context.stage == "forward":
        given = {"index {index}": context.indices[0]} if context.indices else {}
        said = elements.index(bad, given, None)
    else:
        said = None
    return f"{said}: PyTorch raises or ignores it, JAX gives NaN" if said else None


def beyond_table(context: Context) -> str | None:
    """An index that the table of this call does not have, which JAX clamps or fills with NaN."""
    table = context.values.get("weight")
    if context.before is not None and context.what == "in":
        if not context.before.integers or not np.array_equal(context.jax, np.rint(context.jax)):
            return None  # what goes in are no indices
        ids, rows = context.jax, context.rows_before
    elif context.call is not None and context.call.integers and table is not None:
        # JAX's own indices, where it was given others than PyTorch.
        ids = (*context.indices, *context.call.integers)[0]
        rows = len(table)
    else:
        return None
    if rows is None or ids.size == 0 or not np.isfinite(ids).all():
        return None
    said = elements.index(ids, {"index {index}": ids.astype(np.int64)}, rows)
    return f"{said}: PyTorch raises, JAX clamps it or gives NaN" if said else None
