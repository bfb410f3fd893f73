import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Timesteps(torch.nn.Module):
    def forward(self, t):
        f = torch.exp(-math.log(10000) * torch.arange(4, dtype=t.dtype) / 4)
        a = t[:, None] * f
        return torch.cat([a.cos(), a.sin()], -1)  # flip_sin_to_cos


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.time = Timesteps()
        self.proj = torch.nn.Linear(8, 6)

    def forward(self, t):
        return self.proj(self.time(t))


class Port(nn.Module):
    @nn.compact
    def __call__(self, t):
        f = jnp.exp(-math.log(10000) * jnp.arange(4, dtype=t.dtype) / 4)
        a = t[:, None] * f
        return nn.Dense(6, name="proj")(jnp.concatenate([jnp.sin(a), jnp.cos(a)], -1))


def loss(model, t):
    return (model(t) ** 2).mean()


def make_jax():
    return Port(), Port().init(jax.random.key(0), jnp.zeros((2,)))


pair = Pair(
    torch=Net, jax=make_jax, torch_loss=loss, jax_loss=loss, batch=(np.array([3.0, 500.0, 77.0]),)
)
