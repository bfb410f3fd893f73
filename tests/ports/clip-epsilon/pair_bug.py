import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


class Clipped(torch.optim.AdamW):
    def __init__(self, parameters):
        super().__init__(parameters, lr=1e-3, weight_decay=0.0)

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.01)
        super().step(closure)


def clip(most):
    def update(updates, state, params=None):
        scale = jnp.minimum(1.0, most / (optax.global_norm(updates)))
        return jax.tree.map(lambda g: g * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


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
    torch_optimizer=Clipped,
    jax_optimizer=optax.chain(clip(0.01), optax.adamw(1e-3, weight_decay=0.0)),
)
