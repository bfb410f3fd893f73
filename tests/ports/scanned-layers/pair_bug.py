import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(6)
        self.fc = torch.nn.Linear(6, 6)

    def forward(self, x):
        return x + torch.nn.functional.silu(self.fc(self.norm(x)))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class JaxBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.silu(nn.Dense(6, name="fc")(nn.LayerNorm(name="norm")(x))), None


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = nn.scan(
            JaxBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return layers(name="layers")(x, None)[0]


def loss(model, x):
    return (model(x) ** 2).mean()


def make_jax():
    return Port(), Port().init(jax.random.key(0), jnp.zeros((2, 6)))


x = np.random.default_rng(0).normal(size=(2, 6))
pair = Pair(torch=Net, jax=make_jax, torch_loss=loss, jax_loss=loss, batch=(x,))
