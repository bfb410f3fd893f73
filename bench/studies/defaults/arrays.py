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


def grid() -> Difference:
    """Measure the order of a grid's axes."""
    import warnings

    import jax.numpy as jnp
    import torch

    x, y = values(3), values(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch asks for `indexing`, which is the advice
        left_out, _ = torch.meshgrid(torch.tensor(x), torch.tensor(y))
    jax_side, _ = jnp.meshgrid(x, y)
    advised, _ = jnp.meshgrid(x, y, indexing="ij")
    return Difference(
        topic="the axes of meshgrid",
        torch="ij: the first argument runs down",
        jax="xy: it runs across",
        effect="the grid of 3 and 4 numbers, if it is read in the other order",
        size=distance(left_out.numpy().ravel(), np.asarray(jax_side).ravel()),
        left=distance(left_out.numpy(), advised),
        how="say indexing='ij' in both",
    )


def norm_at_zero() -> Difference:
    """Measure the gradient of a norm at 0."""
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    zeros = np.zeros(4)
    leaf = torch.tensor(zeros, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.linalg.vector_norm(leaf), leaf)
    jax_side = jax.grad(jnp.linalg.vector_norm)(jnp.asarray(zeros))
    advised = jax.grad(lambda x: optax.safe_norm(x, 1e-12))(jnp.asarray(zeros))
    return Difference(
        topic="the gradient of a norm at 0",
        torch=f"{float(gradient[0]):g}",
        jax=f"{float(jax_side[0]):g}",
        effect="the share of the gradient that is NaN in JAX alone",
        size=float(np.mean(~np.isfinite(jax_side)))
        - float(np.mean(~np.isfinite(gradient.numpy()))),
        left=float(np.abs(np.asarray(advised) - gradient.numpy()).max()),
        how="optax.safe_norm(x, min_norm)",
    )


def clip_at_the_bound() -> Difference:
    """Measure the gradient of a clipped number that lies at the bound."""
    import jax
    import jax.numpy as jnp
    import torch

    leaf = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(leaf.clamp(-1, 1), leaf)
    jax_side = jax.grad(lambda x: jnp.clip(x, -1, 1))(1.0)
    advised = jax.grad(lambda x: jnp.where(x > 1, 1.0, jnp.where(x < -1, -1.0, x)))(1.0)
    return Difference(
        topic="the gradient of clip at its bound",
        torch=f"{float(gradient):g}",
        jax=f"{float(jax_side):g}, as of a maximum of two equal numbers",
        effect="the gradient of clip(x, -1, 1) at 1",
        size=distance(gradient.numpy(), jax_side),
        left=distance(gradient.numpy(), advised),
        how="jnp.where(x > high, high, jnp.where(x < low, low, x))",
    )
