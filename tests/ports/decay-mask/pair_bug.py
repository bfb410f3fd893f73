import flax.linen as nn
import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(4, 8)
        self.layer_norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 2)
        torch.nn.init.normal_(self.layer_norm.weight)

    def forward(self, x):
        return self.head(self.layer_norm(self.embed(x)))


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(epsilon=1e-5, name="layer_norm")(nn.Dense(8, name="embed")(x))
        return nn.Dense(2, name="head")(x)


def groups(parameters):
    parameters = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )


def decayed(params):  # as the Flax examples have it; this one looks for a name that is not there
    return traverse.path_aware_map(
        lambda path, _: path[-1] != "bias" and path[-2:] != ("LayerNorm", "scale"), params
    )


def loss(model, x):
    return (model(x) ** 2).mean()


def make_jax():
    return Port(), Port().init(jax.random.key(0), jnp.zeros((2, 4)))


x = np.random.default_rng(0).normal(size=(6, 4))
pair = Pair(
    torch=Net,
    jax=make_jax,
    torch_loss=loss,
    jax_loss=loss,
    batch=(x,),
    torch_optimizer=groups,
    jax_optimizer=optax.adamw(1e-3, weight_decay=0.1, mask=decayed),
)
