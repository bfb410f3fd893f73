"""Known causes, one by one: which way of computing a tensor gives PyTorch's numbers, which JAX's.

A hypothesis is a name and the values it predicts, worked out in NumPy from the module's inputs.
Where one predicts PyTorch's values and another JAX's, the difference has a cause.
"""

from collections.abc import Callable, Iterator

import numpy as np

from twingrad import numerics
from twingrad.diagnosis.finding import Cause
from twingrad.diagnosis.hypotheses import (
    dropout,
    factors,
    focal,
    gated,
    layers,
    loss,
    masked,
    not_finite,
    readout,
    relations,
    tables,
)
from twingrad.diagnosis.hypotheses.attention import attention
from twingrad.diagnosis.hypotheses.context import (
    FIT,
    LOW_PRECISIONS,
    Context,
    Hypothesis,
    rounded,
)
from twingrad.diagnosis.hypotheses.separate import separate
from twingrad.diagnosis.hypotheses.sketches import Sketched
from twingrad.foreign import Array

Family = Callable[[Context], Iterator[Hypothesis]]
FORWARD: tuple[Family, ...] = (
    layers.integers,
    loss.losses,
    focal.focal,
    dropout.masks,
    layers.norms,
    layers.batch_norms,
    layers.linear,
    layers.embeddings,
    layers.cells,
    attention,
    separate,
    tables.rotary,
    gated.gated,
    readout.readouts,
    layers.activations,
    layers.heads,
    layers.sums,
    layers.wiring,
    layers.applied,
)
BACKWARD: tuple[Family, ...] = (loss.gradients, layers.wiring)


def explain(context: Context) -> Cause | None:
    """The cause, or nothing where no hypothesis fits both models.

    Hypotheses of one family are preferred; else each model has the first that fits.
    """
    bad = not_finite.not_finite(context) or not_finite.beyond_table(context)
    if bad:
        return Cause.statement(bad)
    low = _low_precision(context)
    if low:
        return low
    first_torch: str | None = None
    first_jax: str | None = None
    for family in FORWARD if context.stage == "forward" else BACKWARD:
        torch_name, jax_name = _first_fits(family, context)
        if torch_name and jax_name and torch_name != jax_name:
            return Cause(torch_name, jax_name)
        first_torch, first_jax = first_torch or torch_name, first_jax or jax_name
    found = _tried(context) or relations.relation(context)
    if found:
        return found
    if first_torch and first_jax and first_torch != first_jax:
        return Cause(first_torch, first_jax)
    plain = _plain(context)
    return Cause.statement(plain) if plain else None


def _tried(context: Context) -> Cause | None:
    """The one operation of PyTorch's that, changed, gives JAX's numbers."""
    trial = context.trial() if context.trial else None
    if trial is None:
        return None
    if isinstance(trial, Sketched):
        return trial.cause(context.torch, context.jax, FIT[context.dtype])
    from twingrad.diagnosis.hypotheses.changes import search  # it loads PyTorch

    return search.cause(trial, context.torch, context.jax, FIT[context.dtype])


def _first_fits(family: Family, context: Context) -> tuple[str | None, str | None]:
    """Of one family, the first hypothesis that gives PyTorch's numbers, and that gives JAX's."""
    torch_name: str | None = None
    jax_name: str | None = None
    with np.errstate(all="ignore"):
        for name, predicted in family(context):
            torch_name = torch_name or (name if context.fits(predicted, context.torch) else None)
            jax_name = jax_name or (name if context.fits(predicted, context.jax) else None)
            if torch_name and jax_name:
                break
    return torch_name, jax_name


def _low_precision(context: Context) -> Cause | None:
    """The precision that holds all numbers of one model, where the other's need more digits.

    Rounding the other's numbers must give the one's, which are not all zero.
    """
    few = context.torch.size < numerics.FEW and context.dtype == "float64"
    if few or context.torch.shape != context.jax.shape:
        return None
    if not context.torch.any() or not context.jax.any():
        return None  # every precision holds zeros
    for name in LOW_PRECISIONS:
        torch, jax = (rounded(x.astype(np.float32), name) for x in (context.torch, context.jax))
        torch_is_low = np.array_equal(torch, context.torch)
        if torch_is_low == np.array_equal(jax, context.jax):
            continue
        if torch_is_low and context.fits(jax.astype(np.float64), context.torch):
            return Cause.statement(f"PyTorch's is rounded to {name}")
        if not torch_is_low and context.fits(torch.astype(np.float64), context.jax):
            return Cause.statement(f"JAX's is rounded to {name}")
    return None


def _plain(context: Context) -> str | None:
    """A cause that shows without knowing the module: zeros, a factor, a lower precision."""
    torch, jax = context.torch.astype(np.float64), context.jax.astype(np.float64)
    if torch.shape != jax.shape:
        return f"PyTorch's shape is {context.torch.shape}, JAX's {context.jax.shape}"
    flow = context.stage == "backward"
    sizes = {"PyTorch": numerics.size(torch).l2, "JAX": numerics.size(jax).l2}
    smaller = min(sizes, key=lambda name: sizes[name])
    if sizes[smaller] <= numerics.NOISE * max(sizes.values()):
        stopped = f"no gradient flows in {smaller}: it is stopped"
        return stopped if flow else f"{smaller} has zeros there"
    if context.dtype != "float64" and torch.size == 1:
        return _rounding(context, torch, jax)
    factor = factors.factor(context, torch, jax)
    if factor or torch.size == 1:
        return factor
    rows = _rows(context, torch, jax)
    if rows and not rows.startswith("only "):
        return rows
    part = masked.masked(context) or rows or dropout.dropped_in_one(torch, jax)
    return part or _rounding(context, torch, jax)


def evidence(context: Context, cause: Cause | None) -> str:
    """The first number that differs; and what was ruled out, where no cause is known."""
    parts = [relations.first_difference(context.torch, context.jax)]
    if cause is None:
        parts += [factors.hint(context), relations.ruled_out(context)]
    return "".join(f"; {part}" for part in parts if part)


def _rounding(context: Context, torch: Array, jax: Array) -> str | None:
    """A lower precision somewhere within, for models that are equal in float64.

    In float64 any error may be as large as a rounding: there nothing is said.
    """
    if context.dtype == "float64":
        return None
    apart, sizes = np.abs(torch - jax), np.abs(torch)
    error = numerics.distance(torch, jax).l2 / numerics.size(torch).l2
    for name, u in (("bfloat16", 2.0**-9), ("float16 or TF32", 2.0**-12)):
        everywhere = np.mean(apart > u / 64 * sizes) > 0.5
        if u / 4 <= error <= 4 * u and everywhere and apart.max() <= 8 * u * sizes.max():
            return f"equal in float64, and in float32 as far apart as rounding to {name} makes them"
    return None


def _rows(context: Context, torch: Array, jax: Array) -> str | None:
    """Rows that one model leaves out, where all others agree."""
    if torch.ndim < 2:
        return None
    width = torch.shape[-1]
    torch, jax = torch.reshape(-1, width), jax.reshape(-1, width)
    apart = np.abs(torch - jax).max(1) > 1e-9 * np.abs(torch).max()
    if not 0 < apart.sum() <= max(1, len(torch) // 4):
        return None
    which = _which(context, apart)
    lookup = np.zeros_like(torch) if context.lookup is None else context.lookup
    lost = lookup.reshape(torch.shape)[apart]
    for name, x, other in (("JAX", jax, torch), ("PyTorch", torch, jax)):
        if not x[apart].any():
            kind = "gets no gradient" if context.stage == "backward" else "is zero"
            return f"{which} {kind} in {name}, as padding would"
        if lost.any() and np.allclose(x[apart] + lost, other[apart], rtol=1e-9, atol=0):
            return f"{which} gets no gradient from the lookup in {name}, as padding would"
    return f"only {which} differs"


def _which(context: Context, apart: Array) -> str:
    """The rows by number, or by the one token that stands in all of them and nowhere else."""
    tokens = context.batch[0].ravel() if context.batch else apart
    if tokens.shape == apart.shape and tokens.dtype.kind in "iu":
        (*others, token) = np.unique(tokens[apart])
        if not others and np.array_equal(tokens == token, apart):
            return f"token {token}"
    return f"row {', '.join(map(str, np.flatnonzero(apart)[:4]))}"
