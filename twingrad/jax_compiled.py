"""Compiled functions of JAX whose numbers do not hang on what the compiler computes twice."""

import jax
import jax.numpy as jnp
import numpy as np

from twingrad.foreign import ModuleCall, Tree

_WITHOUT_FUSION = {"xla_disable_hlo_passes": "fusion"}


def compiled(function: ModuleCall) -> ModuleCall:
    """``function`` compiled; where results are not all finite, compiled again without fusion.

    XLA may compute a number twice, in two loops that round otherwise. The gradient of a maximum,
    which looks for the numbers that are equal to it, then finds none and divides by zero, where
    the same operations one by one have no such gradient.
    """
    fused = jax.jit(function)
    apart = jax.jit(function, compiler_options=_WITHOUT_FUSION)

    def run(*args: Tree) -> Tree:
        results: Tree = fused(*args)
        if not _is_finite(results):
            results = apart(*args)
        return results

    return run


def _is_finite(results: Tree) -> bool:
    """Whether all results are finite, by NumPy: JAX would compile this check for every shape."""
    numbers = [
        x for x in jax.tree_util.tree_leaves(results) if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return all(np.isfinite(x).all() for x in numbers)
