import flax.nnx as nnx
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(13, 8)
        self.fc = torch.nn.Linear(8, 8)

    def forward(self, ids):
        x = self.embed(ids) * 8**0.5
        return (x + self.fc(x)) @ self.embed.weight.T


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(13, 8, rngs=rngs)
        self.fc = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids) * 8**0.5
        return self.embed.attend(x + self.fc(x))


def loss(model, ids):
    return (model(ids) ** 2).mean()


ids = np.random.default_rng(0).integers(0, 13, size=(2, 5))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(ids,))
