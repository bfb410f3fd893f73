"""Debugging, in JAX."""

import jax
import jax.numpy as jnp
import jax.test_util
from jax.experimental import checkify


def find_nan(x):
    try:
        with jax.debug_nans(True):
            jax.grad(lambda x: (jnp.sqrt(x) * 0).sum())(x - x)
    except FloatingPointError:
        return True
    return False


def print_inside(x):
    seen = []

    @jax.jit
    def energy(x):
        total = jnp.sin(x).sum()
        jax.debug.callback(
            lambda t: seen.append(round(t.item(), 6)), total
        )  # or jax.debug.print
        return total

    result = energy(x)
    jax.effects_barrier()
    return result, seen


def check_values(x):
    def root(x):
        checkify.check((x > 0).all(), "x must be positive")
        return jnp.sqrt(x)

    checked = checkify.checkify(jax.jit(root))
    error, _ = checked(-x)
    return checked(x)[1], "x must be positive" in error.get()


def step_through(x):
    @jax.jit
    def doubled(x):
        total = x.sum()
        return x * 2 if total > 0 else x  # a breakpoint here sees numbers

    with jax.disable_jit():
        return doubled(jnp.abs(x))


def shapes_alone():
    def make():
        from flax import nnx

        layer = nnx.Linear(50_000, 50_000, rngs=nnx.Rngs(0))  # takes no memory
        return layer(jnp.ones((8, 50_000))), nnx.state(layer)

    output, state = jax.eval_shape(make)
    return tuple(output.shape), sum(p.size for p in jax.tree.leaves(state))


def check_a_gradient(x):
    jax.test_util.check_grads(
        lambda x: (jnp.sin(x) * x).sum(), (x,), order=1
    )  # raises
    return True


def all_finite(weight, bias):
    parameters = {"weight": weight, "bias": bias / 0}
    return all(
        jnp.isfinite(p).all().item() for p in jax.tree.leaves(parameters)
    )


def compare_trees(weight, bias):
    left, right = (
        {"weight": weight, "bias": bias},
        {"weight": weight * 1.01, "bias": bias},
    )
    return jax.tree.map(lambda x, y: jnp.abs(x - y).max(), left, right)
