import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

OFFSET = 2


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(11, 8)
        self.positions = torch.nn.Embedding(6 + OFFSET, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 11)

    def forward(self, ids):
        positions = torch.arange(ids.shape[1]) + OFFSET
        return self.head(self.norm(self.tokens(ids) + self.positions(positions)))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.tokens = nnx.Embed(11, 8, rngs=rngs)
        self.positions = nnx.Embed(6 + OFFSET, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(8, 11, rngs=rngs)

    def __call__(self, ids):
        positions = jnp.arange(ids.shape[1])
        return self.head(self.norm(self.tokens(ids) + self.positions(positions)))


def loss(model, ids):
    return (model(ids) ** 2).mean()


ids = np.random.default_rng(0).integers(0, 11, (3, 6))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(ids,))
