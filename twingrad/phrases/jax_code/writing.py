"""Writing in place, views and copies, in JAX."""

import jax
import jax.numpy as jnp


def write(x):
    x = x.at[0].set(1.0)
    x = x.at[:, 1].set(0.0)
    return x


def add_at(x, index, values):
    return x.at[index].add(values)


def largest_at(x, index, values):
    return x.at[index].max(values)


def write_where(x):
    return jnp.where(x < 0, 0.0, x)


def through_a_view(x):
    return x.at[0].add(
        1
    )  # row = x[0] is another array: adding to it leaves x as it was


def copy(x):
    y = x.at[0].set(0.0)
    return x, y


def swap_rows(x):
    return x.at[jnp.array([0, 1])].set(x[jnp.array([1, 0])])


def diagonal(x):
    i = jnp.arange(min(x.shape))
    return x.at[i, i].add(1.0)


def fill_a_buffer(x):
    return jax.vmap(lambda i: x * i)(jnp.arange(4))


def write_a_slice(cache, new, position):
    return jax.lax.dynamic_update_slice_in_dim(cache, new, position, axis=0)


def all_parameters(weight, bias):
    parameters = {"weight": weight, "bias": bias}
    return jax.tree.map(lambda parameter: parameter * 0.9, parameters)
