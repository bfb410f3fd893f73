import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(16, 32, rngs=rngs)
        self.b = nnx.Linear(32, 16, rngs=rngs)  # a product of few bits, as TF32 or a TPU's

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x))).astype(x.dtype)


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(8, 16))
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"0.weight": "a.kernel", "2.weight": "b.kernel"},
)
