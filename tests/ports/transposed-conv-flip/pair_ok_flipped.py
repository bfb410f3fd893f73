import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x):
        return self.up(torch.relu(self.conv(x)))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.up = nnx.ConvTranspose(4, 4, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)

    def __call__(self, x):
        return self.up(nnx.relu(self.conv(x)))


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
