import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.PReLU(), torch.nn.Linear(8, 2))


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.PReLU(negative_slope_init=0.25, name="act")(nn.Dense(8, name="a")(x))
        return nn.Dense(2, name="b")(jnp.tanh(x))


def loss(model, x):
    return (model(x) ** 2).mean()


def make_jax():
    return Port(), Port().init(jax.random.key(0), jnp.zeros((2, 4)))


x = np.random.default_rng(0).normal(size=(6, 4))
pair = Pair(
    torch=make_torch,
    jax=make_jax,
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={"1.weight": "act.negative_slope"},
)
