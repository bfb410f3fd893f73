import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.depth = torch.nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.point = torch.nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.point(torch.relu(self.depth(x)))


class Depthwise(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), padding=1, feature_group_count=3, rngs=rngs)

    def __call__(self, x):
        y = self.conv(x)
        return y


class Port(nnx.Module):
    def __init__(self, rngs):
        self.depth = Depthwise(rngs)
        self.point = nnx.Conv(6, 4, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.point(nnx.relu(self.depth(x)))


def torch_loss(model, x):
    return (model(x) ** 2).mean()


def jax_loss(model, x):
    return (model(jnp.moveaxis(x, 1, -1)) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x,),
    names={"depth.weight": "depth.conv.kernel", "depth.bias": "depth.conv.bias"},
)
