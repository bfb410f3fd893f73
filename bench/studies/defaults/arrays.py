"""Defaults of arrays and reductions that differ."""

import numpy as np

from bench.studies.defaults.difference import Difference, distance, values


def variance() -> Difference:
    """Measure what a variance is divided by."""
    import jax.numpy as jnp
    import torch

    x = values(10)
    a = torch.tensor(x).var().numpy()
    return Difference(
        topic="var and std",
        torch="over n - 1",
        jax="over n",
        effect="the variance of ten numbers",
        size=distance(a, jnp.var(x)),
        left=distance(a, jnp.var(x, ddof=1)),
        how="x.var(correction=0) in PyTorch, or jnp.var(x, ddof=1)",
    )


def median() -> Difference:
    """Measure the median of an even number of values."""
    import jax.numpy as jnp
    import torch

    x = np.array([1.0, 2.0, 3.0, 10.0])
    a = torch.tensor(x).median().numpy()
    middle = torch.tensor(x).quantile(0.5).numpy()
    return Difference(
        topic="median of an even number",
        torch="the lower of the two in the middle",
        jax="their mean",
        effect="the median of 1, 2, 3, 10",
        size=distance(a, jnp.median(x)),
        left=distance(middle, jnp.median(x)),
        how="torch.quantile(x, 0.5)",
    )


def integers() -> Difference:
    """Measure the dtype of Python's integers."""
    import jax
    import jax.numpy as jnp
    import torch

    with jax.enable_x64(False):
        jax_side = jnp.asarray([2**31 - 1]) + 1
    torch_side = torch.tensor([2**31 - 1]) + 1
    wide = torch_side.numpy().astype(np.int32)
    return Difference(
        topic="Python's integers",
        torch=str(torch_side.dtype).removeprefix("torch."),
        jax=f"{jax_side.dtype}, unless jax_enable_x64 is set",
        effect=f"2147483647 + 1 is {int(torch_side[0])} and {int(jax_side[0])}",
        size=distance(torch_side.numpy(), np.asarray(jax_side)),
        left=distance(wide, np.asarray(jax_side)),
        how="say the dtype: torch.tensor(x, dtype=torch.int32), or enable x64",
    )


def float64() -> Difference:
    """Measure the dtype of a float64 array from NumPy."""
    import jax
    import jax.numpy as jnp
    import torch

    x = np.array([1.0 + 2.0**-40])
    with jax.enable_x64(False):
        jax_side = jnp.asarray(x)
    with jax.enable_x64(True):
        kept = jnp.asarray(x)
    torch_side = torch.tensor(x)
    return Difference(
        topic="a float64 array from NumPy",
        torch=str(torch_side.dtype).removeprefix("torch."),
        jax=f"{jax_side.dtype}, silently",
        effect="1 + 2⁻⁴⁰, less 1",
        size=distance(torch_side.numpy() - 1, np.asarray(jax_side, np.float64) - 1),
        left=distance(torch_side.numpy() - 1, np.asarray(kept) - 1),
        how='jax.config.update("jax_enable_x64", True), before anything else',
    )


def out_of_range() -> Difference:
    """Measure an index out of range."""
    import jax.numpy as jnp
    import torch

    table = np.arange(3.0)
    try:
        torch.tensor(table)[torch.tensor([5])]
        torch_side = "an answer"
    except IndexError:
        torch_side = "an error"
    jax_side = float(jnp.asarray(table)[jnp.asarray([5])][0])
    return Difference(
        topic="an index out of range",
        torch=torch_side,
        jax=f"the last element, {jax_side:g}",
        effect="answers to a wrong question",
        size=1.0,
        left=0.0,
        how="check token ids before they reach either framework",
    )
