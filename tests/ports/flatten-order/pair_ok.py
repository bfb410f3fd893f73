import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.head = torch.nn.Linear(4 * 5 * 6, 2)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).flatten(1))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4 * 5 * 6, 2, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.conv(x)).transpose(0, 3, 1, 2)
        return self.head(y.reshape(y.shape[0], -1))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    jax_batch=(x.transpose(0, 2, 3, 1),),
)
