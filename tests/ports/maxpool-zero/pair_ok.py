import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3)
        self.pool = torch.nn.MaxPool2d(3, 2, padding=1)
        self.out = torch.nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.out(self.pool(-torch.nn.functional.softplus(self.conv(x))))


def max_pool(x):
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nnx.max_pool(x, (3, 3), (2, 2))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), padding="VALID", rngs=rngs)
        self.out = nnx.Conv(6, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.out(max_pool(-jax.nn.softplus(self.conv(x))))


def torch_loss(model, x):
    return (model(x) ** 2).mean()


def jax_loss(model, x):
    return (model(jnp.moveaxis(x, 1, -1)) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 9, 9))
pair = Pair(
    torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=torch_loss, jax_loss=jax_loss, batch=(x,)
)
