import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 8, rngs=rngs)
        self.b = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


def torch_loss(model, x, y):
    return ((model(x)[:, 0] - y) ** 2).mean()


def jax_loss(model, x, y):
    return ((model(x) - y) ** 2).mean()  # (16, 1) less (16,) is (16, 16)


r = np.random.default_rng(0)
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(r.normal(size=(16, 4)), r.normal(size=16)),
    names={"0.bias": "a.bias", "2.weight": "b.kernel"},
)
