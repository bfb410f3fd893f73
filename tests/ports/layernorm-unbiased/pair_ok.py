import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Norm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a_2, self.b_2 = (torch.nn.Parameter(torch.randn(8)) for _ in range(2))

    def forward(self, x):
        return (
            self.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b_2
        )


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(5, 8)
        self.norm = Norm()

    def forward(self, x):
        return self.norm(self.fc(x))


class JaxNorm(nnx.Module):
    def __init__(self):
        self.a_2, self.b_2 = nnx.Param(jnp.ones(8)), nnx.Param(jnp.zeros(8))

    def __call__(self, x):
        std = x.std(-1, keepdims=True, ddof=1)
        return self.a_2 * (x - x.mean(-1, keepdims=True)) / (std + 1e-6) + self.b_2


class Port(nnx.Module):
    def __init__(self, rngs):
        self.fc = nnx.Linear(5, 8, rngs=rngs)
        self.norm = JaxNorm()

    def __call__(self, x):
        return self.norm(self.fc(x))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(6, 5))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
