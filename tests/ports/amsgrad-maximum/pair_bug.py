import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


def amsgrad(rate, b1=0.9, b2=0.999):
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.zeros((), jnp.int32), zeros, zeros, zeros

    def update(grads, state, params=None):
        count, m, v, most = state
        count = count + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
        most = jax.tree.map(jnp.maximum, most, v)
        steps = jax.tree.map(
            lambda m, v: -rate * m / (1 - b1**count) / (jnp.sqrt(v / (1 - b2**count)) + 1e-8),
            m,
            most,
        )
        return steps, (count, m, v, most)

    return optax.GradientTransformation(init, update)


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 8, rngs=rngs)
        self.b = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(16, 4))
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"0.bias": "a.bias", "2.weight": "b.kernel"},
    torch_optimizer=lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    jax_optimizer=optax.amsgrad(1e-2),
)
