"""Precision and dtypes, in JAX."""

import jax
import jax.numpy as jnp
from flax import nnx


def cast(x):
    return x.astype(jnp.float32), x.astype(jnp.bfloat16)


def defaults_of_numbers(x):
    integer = jnp.asarray(3)
    return str(integer.dtype), integer * x


def keep_the_dtype(x):
    x = x.astype(jnp.bfloat16)
    y = x * 2.5 + 1
    return y, str(y.dtype)


def accumulate_in_float32(x, y):
    x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def autocast(x, weight):
    x = x.astype(jnp.float32)
    layer = nnx.Linear(
        3, 2, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    layer.kernel = nnx.Param(weight.T.astype(jnp.float32))
    gradients = nnx.grad(lambda layer: layer(x).astype(jnp.float32).sum())(
        layer
    )
    return layer(x), gradients["kernel"][...].dtype == jnp.float32


def master_weights(weight, gradient):
    master = weight.astype(jnp.float32)
    for _ in range(100):
        master -= 1e-4 * gradient.astype(jnp.bfloat16).astype(jnp.float32)
    return master.astype(jnp.bfloat16)


def loss_scaling(x):
    x = x.astype(jnp.float16)
    scale = 1024.0
    gradient = jax.grad(lambda x: jnp.square(x * 1e-4).sum() * scale)(x)
    return gradient.astype(jnp.float32) / scale


def limits(x):
    info = jnp.finfo(x.dtype)
    return float(info.eps), float(info.max), float(info.tiny)


def whole_division(x, y):
    y = y + 1
    return x // y, x % y, jax.lax.div(-x, y)


def lower_matmul_precision(x, y):
    with jax.default_matmul_precision("highest"):
        return x.astype(jnp.float32) @ y.astype(jnp.float32)
