import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.pool = torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(self.pool(self.conv(x)))


class Pool(nnx.Module):
    def __call__(self, x):
        return nnx.avg_pool(x, (3, 3), (1, 1), "SAME")


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.pool = Pool()
        self.head = nnx.Conv(4, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.head(self.pool(self.conv(x)))


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
