"""Creating and indexing, in JAX."""

import jax
import jax.numpy as jnp
import numpy as np


def to_numpy_and_back(x):
    array = np.asarray(x)
    return jnp.asarray(array * 2)


def same_dtype(x):
    return jnp.zeros((2, 3), x.dtype), jnp.full_like(x, 0.5)


def ranges(x):
    return jnp.arange(2, 10, 3), jnp.linspace(0, 1, 5, dtype=x.dtype)


def grid(x, y):
    rows, columns = jnp.meshgrid(x, y, indexing="ij")
    return rows * columns


def one_hot(index):
    return jax.nn.one_hot(index, 4, dtype=jnp.float64)


def rows(x, index):
    return x[index]


def one_of_each_row(x, index):
    return x[jnp.arange(len(x)), index]


def past_the_end(x, index):
    return x.at[index].get(mode="fill", fill_value=jnp.nan)


def backwards(x):
    return x[::-1]


def window(x, start):
    return jax.lax.dynamic_slice_in_dim(x, start, 2)


def to_python(x):
    return x.sum().item(), x.tolist()


def repeat(x):
    return jnp.tile(x, (2, 1)), jnp.repeat(x, 2, axis=0)
