"""Train and eval mode, dropout and batch norm, in JAX with Flax NNX."""

import jax.numpy as jnp
from flax import nnx


def train_and_eval(x):
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Dropout(0.5, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
    )
    model.train()
    model(x)
    model.eval()
    return jnp.array_equal(model(x), model(x)), not model.layers[
        0
    ].deterministic


def dropout():
    x = jnp.ones((100, 200))
    y = nnx.Dropout(rate=0.2, rngs=nnx.Rngs(0))(x)
    return (y == 0).mean(), y.max(), y.mean()


def same_mask(x):
    # one mask is broadcast along the axis of time
    y = nnx.Dropout(0.2, broadcast_dims=(1,), rngs=nnx.Rngs(0))(x)
    return jnp.array_equal(y[:, 0] == 0, y[:, 1] == 0)


def batch_norm(x):
    norm = nnx.BatchNorm(
        3,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        dtype=x.dtype,
        rngs=nnx.Rngs(0),
    )
    norm.mean, norm.var = (
        nnx.BatchStat(jnp.zeros(3)),
        nnx.BatchStat(jnp.ones(3)),
    )
    return norm(x), norm.mean[...]


def batch_norm_in_eval(x, mean, variance):
    norm = nnx.BatchNorm(3, epsilon=1e-5, dtype=x.dtype, rngs=nnx.Rngs(0))
    norm.mean, norm.var = nnx.BatchStat(mean), nnx.BatchStat(variance)
    norm.eval()
    return norm(x)


def freeze_batch_norm(x):
    model = nnx.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.relu)
    model.train()
    frozen = nnx.view(model, only=nnx.BatchNorm, use_running_average=True)
    before = jnp.array(model.layers[0].mean[...])
    frozen(x)
    return jnp.array_equal(before, model.layers[0].mean[...]), True
