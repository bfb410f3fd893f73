import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.v = torch.nn.Parameter(torch.randn(6, 4))
        self.g = torch.nn.Parameter(torch.rand(6) + 0.5)
        self.bias = torch.nn.Parameter(torch.randn(6))

    def forward(self, x):
        weight = torch._weight_norm(self.v, self.g[:, None], 0)
        return torch.nn.functional.linear(x, weight, self.bias)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Normed()
        self.last = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class JaxNormed(nnx.Module):
    def __init__(self):
        self.v = nnx.Param(jnp.ones((4, 6)))
        self.g = nnx.Param(jnp.ones(6))
        self.bias = nnx.Param(jnp.zeros(6))

    def __call__(self, x):
        v = self.v[...]
        weight = self.g[...] * v / jnp.linalg.norm(v, axis=0, keepdims=True)
        return x @ weight + self.bias[...]


class Port(nnx.Module):
    def __init__(self, rngs):
        self.first = JaxNormed()
        self.last = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.first(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(7, 4))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
