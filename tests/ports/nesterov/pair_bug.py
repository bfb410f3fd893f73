import flax.nnx as nnx
import numpy as np
import optax
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
    torch_optimizer=lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
    jax_optimizer=optax.sgd(1e-2, momentum=0.9),
)
