import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 3, padding=1)
        self.shuffle = torch.nn.PixelShuffle(2)
        self.head = torch.nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.head(self.shuffle(self.conv(x)))


class Shuffle(nnx.Module):
    def __call__(self, x):
        B, H, W, C = x.shape
        x = x.reshape(B, H, W, C // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        return x.reshape(B, 2 * H, 2 * W, C // 4)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 12, (3, 3), rngs=rngs)
        self.shuffle = Shuffle()
        self.head = nnx.Conv(3, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.head(self.shuffle(self.conv(x)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    jax_batch=(x.transpose(0, 2, 3, 1),),
)
