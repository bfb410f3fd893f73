import equinox as eqx
import jax
import numpy as np
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(
        torch.nn.Linear(6, 7), torch.nn.LayerNorm(7), torch.nn.GELU(), torch.nn.Linear(7, 6)
    )


class Port(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    last: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.first = eqx.nn.Linear(6, 7, key=a)
        self.norm = eqx.nn.LayerNorm(7)
        self.last = eqx.nn.Linear(7, 6, key=b)

    def __call__(self, x):
        return self.last(jax.nn.gelu(self.norm(self.first(x))))


def make_jax():
    params, static = eqx.partition(Port(jax.random.key(0)), eqx.is_array)
    return lambda p, x: jax.vmap(eqx.combine(p, static))(x), params


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(3, 6))
pair = Pair(
    torch=make_torch,
    jax=make_jax,
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    names={
        "0.weight": "first.weight",
        "0.bias": "first.bias",
        "1.weight": "norm.weight",
        "1.bias": "norm.bias",
        "3.weight": "last.weight",
        "3.bias": "last.bias",
    },
)
