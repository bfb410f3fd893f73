import flax.nnx as nnx
import jax
import numpy as np
import torch

from twingrad import Pair


class Upsample(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.interpolate(
            x, scale_factor=2, mode="bilinear", align_corners=True
        )


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.up = Upsample()
        self.head = torch.nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.head(self.up(self.conv(x)))


class JaxUpsample(nnx.Module):
    def __call__(self, x):
        shape = (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3])
        return jax.image.resize(x, shape, "bilinear")


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.up = JaxUpsample()
        self.head = nnx.Conv(4, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.head(self.up(self.conv(x)))


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
