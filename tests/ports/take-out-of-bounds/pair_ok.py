import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

VOCAB = 11  # the port was given the vocabulary without the added pad token


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(10, 4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, ids):
        return self.head(self.embed(jnp.minimum(ids, 9)))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.embed(ids.clamp(max=9)))  # PyTorch would raise IndexError


def loss(model, ids):
    return (model(ids) ** 2).mean()


ids = np.array([[1, 2, 10, 3]])
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(ids,))
