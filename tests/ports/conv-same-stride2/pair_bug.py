import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    )


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (7, 7), strides=2, padding="SAME", use_bias=False, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.mean(nnx.relu(self.conv(x)), axis=(1, 2)))


def torch_loss(model, x):
    return (model(x) ** 2).mean()


def jax_loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 16, 16))
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x,),
    jax_batch=(x.transpose(0, 2, 3, 1),),
)
