import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 6)
        torch.nn.init.normal_(self.norm.weight)

    def forward(self, x):
        return self.norm(self.conv(x))


class GroupNorm(nnx.Module):
    def __init__(self):
        self.scale, self.bias = nnx.Param(jnp.ones(6)), nnx.Param(jnp.zeros(6))

    def __call__(self, x):
        g, axes = x.reshape(*x.shape[:3], 2, 3), (1, 2, 4)
        mean, variance = g.mean(axes, keepdims=True), g.var(axes, keepdims=True)
        y = ((g - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
        return y * self.scale + self.bias


class Port(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = GroupNorm()

    def __call__(self, x):
        return self.norm(self.conv(x))


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
    names={"conv.bias": "conv.bias", "norm.weight": "norm.scale", "norm.bias": "norm.bias"},
)
