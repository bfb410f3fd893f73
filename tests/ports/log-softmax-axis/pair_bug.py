import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(5, 8)
        self.b = torch.nn.Linear(8, 6)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(5, 8, rngs=rngs)
        self.b = nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.tanh(self.a(x)))


def torch_loss(model, x, y):
    return torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def jax_loss(model, x, y):
    logs = jax.nn.log_softmax(model(x), axis=1)
    return -jnp.take_along_axis(logs, y[..., None], axis=-1).mean()


rng = np.random.default_rng(0)
x, y = rng.normal(size=(3, 4, 5)), rng.integers(0, 6, (3, 4))
pair = Pair(
    torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=torch_loss, jax_loss=jax_loss, batch=(x, y)
)
