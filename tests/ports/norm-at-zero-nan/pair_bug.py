import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):  # pairwise distances of a molecule, each atom's to itself being zero
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3, 4)
        self.head = torch.nn.Linear(1, 5)

    def forward(self, x):
        h = self.embed(x)
        d = torch.linalg.norm(h[:, :, None] - h[:, None], dim=-1, keepdim=True)
        return self.head(d)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(1, 5, rngs=rngs)

    def __call__(self, x):
        h = self.embed(x)
        d = jnp.linalg.norm(h[:, :, None] - h[:, None], axis=-1, keepdims=True)
        return self.head(d)


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 4, 3))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
