import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.norm = torch.nn.InstanceNorm2d(6, affine=True)
        self.out = torch.nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x))))


class Norm(hk.Module):
    def __call__(self, x):  # (B, H, W, C)
        scale = hk.get_parameter("scale", x.shape[-1:], init=jnp.ones)
        offset = hk.get_parameter("offset", x.shape[-1:], init=jnp.zeros)
        axes = (1, 2)
        mean = x.mean(axes, keepdims=True)
        variance = x.var(axes, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + offset


def forward(x):
    x = hk.Conv2D(6, 3, name="conv")(jnp.moveaxis(x, 1, -1))
    return hk.Conv2D(2, 1, name="out")(jax.nn.relu(Norm(name="norm")(x)))


def make_jax():
    model = hk.without_apply_rng(hk.transform(forward))
    return model, model.init(jax.random.key(0), jnp.zeros((1, 3, 5, 5)))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)) + 0.5
pair = Pair(torch=Net, jax=make_jax, torch_loss=loss, jax_loss=loss, batch=(x,))
