import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(9, 4, padding_idx=0)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.embed(ids).mean(1))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(9, 4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, ids):
        return self.head(jnp.where(ids[..., None] == 0, 0.0, self.embed(ids)).mean(1))


def loss(model, ids):
    return (model(ids) ** 2).mean()


ids = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(ids,))
