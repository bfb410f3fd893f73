import flax.nnx as nnx
import jax
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 8, rngs=rngs)
        self.b = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


def torch_loss(model, x, y):
    return torch.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)


def jax_loss(model, x, y):
    logs = jax.nn.log_softmax(model(x))
    one = jax.nn.one_hot(y, 5, dtype=x.dtype)
    target = 0.9 * one + 0.1 / 4 * (1 - one)
    return -(target * logs).sum(-1).mean()


random = np.random.default_rng(0)
x = random.normal(size=(6, 4))
y = random.integers(0, 5, size=6)
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x, y),
    names={"0.weight": "a.kernel", "2.weight": "b.kernel"},
)
