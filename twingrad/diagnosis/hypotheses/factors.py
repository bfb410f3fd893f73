"""Factors that somebody could have written, or left out: counts of a batch, and their roots.

A number is any other one times a factor, so that of a single number a factor is a cause only where
it is a count of the pair's own arrays, and no two counts of different kinds are as large.
"""

import math
from collections.abc import Iterator

import numpy as np

from twingrad import numerics
from twingrad.diagnosis.hypotheses.context import FIT, Context
from twingrad.foreign import Array

NEAR = 1e-9  # how closely, relatively, a ratio must meet a count
FEW = 4  # n from which n / (n - 1) is no ratio that anything else has
SHARE = 0.01  # of the difference: what may stay when the factor is taken out
_CONSTANTS = {"log(2)": math.log(2), "log(10)": math.log(10), "pi": math.pi, "2 pi": 2 * math.pi}


def factor(context: Context, torch: Array, jax: Array) -> str | None:
    """The factor that makes JAX's tensor of PyTorch's, with its name if it has one."""
    if torch.size == 1:
        return _of_one(context, float(torch.ravel()[0]), float(jax.ravel()[0]))
    ratio = float((torch * jax).sum() / (torch * torch).sum())
    rest = numerics.distance(jax, np.asarray(ratio * torch)).l2
    near = FIT[context.dtype] * numerics.size(jax).l2
    # A factor explains only what goes away with it.
    if not rest <= min(near, SHARE * numerics.distance(jax, torch).l2):
        return None
    if round(ratio, 9) == -1.0:
        return "the sign is turned"
    name = _names(ratio, context)
    return f"JAX's is {ratio:.6g} times PyTorch's" + (f": {name[0]}" if name else "")


def hint(context: Context) -> str:
    """The ratio of two single numbers, which by itself explains nothing."""
    if context.torch.size != 1 or context.torch.shape != context.jax.shape:
        return ""
    torch, jax = float(context.torch.ravel()[0]), float(context.jax.ravel()[0])
    if not torch or not math.isfinite(torch) or not math.isfinite(jax):
        return ""
    return f"JAX's is {jax / torch:.9g} times PyTorch's, which alone says nothing"


def _of_one(context: Context, torch: float, jax: float) -> str | None:
    """The factor of a single number, where it is one count and no other."""
    if not torch or not jax or not math.isfinite(jax / torch):
        return None
    if _near(jax / torch, -1.0):
        return "the sign is turned"
    names = _names(jax / torch, context)
    return f"JAX's is PyTorch's times {names[0]}" if len(names) == 1 else None


def _names(ratio: float, context: Context) -> list[str]:
    """Every name that a ratio has: a count, its inverse, its root, n / (n - 1), a constant."""
    names: dict[str, None] = {}
    for words, count in _counts(context):
        for text, value in (
            (words, count),
            (f"1 / {words}", 1 / count),
            (f"the root of {words}", math.sqrt(count)),
            (f"1 / the root of {words}", 1 / math.sqrt(count)),
            (f"n / (n - 1), n being {words}", count / (count - 1) if count > FEW else 0.0),
            (f"(n - 1) / n, n being {words}", (count - 1) / count if count > FEW else 0.0),
        ):
            if count > 1 and _near(ratio, value):
                names[text] = None
    for words, value in _CONSTANTS.items():
        for text, number in ((words, value), (f"1 / {words}", 1 / value)):
            if _near(ratio, number):
                names[text] = None
    return list(names)


def _near(ratio: float, value: float) -> bool:
    return abs(ratio - value) <= NEAR * abs(value)


def _counts(context: Context) -> Iterator[tuple[str, float]]:
    """Sizes of axes, and numbers of values that are not masked, each with its name."""
    arrays = {f"array {n + 1} of the batch": x for n, x in enumerate(context.batch)}
    if context.torch.ndim:
        arrays = {"the tensor": context.torch, **arrays}
    if context.features is not None:
        arrays["what the loss is made of"] = context.features
    for name, array in arrays.items():
        for axis, n in enumerate(array.shape):
            yield f"{n}, the size of axis {axis} of {name}", float(n)
        if array.ndim > 1:
            yield f"{array.size}, the numbers of {name}", float(array.size)
        if array.dtype.kind == "b":
            yield f"{array.sum()}, the True of {name}", float(array.sum())
        if array.dtype.kind in "iu" and array.size and array.min() < 0:
            count = int((array >= 0).sum())
            yield f"{count}, the targets of {name} that are not ignored", float(count)
