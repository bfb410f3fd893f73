import flax.nnx as nnx
import jax
import numpy as np
import torch

from twingrad import Pair


class Shrink(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.interpolate(x, size=(5, 4), mode="bilinear")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.down = Shrink()
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(self.down(self.conv(x)))


class JaxShrink(nnx.Module):
    def __call__(self, x):
        return jax.image.resize(x, (x.shape[0], 5, 4, x.shape[3]), "bilinear")


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.down = JaxShrink()
        self.head = nnx.Conv(4, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.head(self.down(self.conv(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 12, 10))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    jax_batch=(x.transpose(0, 2, 3, 1),),
)
