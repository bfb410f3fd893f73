import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="first")(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, name="norm")(x)
        return nn.Dense(3, name="last")(nn.relu(x))


def torch_loss(model, x):
    return (model(x) ** 2).mean()


def jax_loss(model, x):
    y, _ = model(x, mutable=["batch_stats"])
    return (y**2).mean()


def make_jax():
    return Port(), Port().init(jax.random.key(0), jnp.zeros((2, 5)))


x = np.random.default_rng(0).normal(size=(6, 5))
pair = Pair(
    torch=make_torch,
    jax=make_jax,
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x,),
    train=True,
    names={"0.bias": "first.bias", "1.weight": "norm.scale", "1.bias": "norm.bias"},
)
