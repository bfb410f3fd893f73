"""A small PyTorch net with running statistics, which the pairs of all kinds port."""

import numpy as np
import torch

from twingrad import Pair

x = np.random.default_rng(0).normal(size=(8, 6))


class Net(torch.nn.Module):
    """Two linear layers with a batch norm between them."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def loss(model, x):
    return (model(x) ** 2).mean()


def pair_of(jax, jax_loss=loss):
    """A pair of the net and its port ``jax``."""
    return Pair(torch=Net, jax=jax, torch_loss=loss, jax_loss=jax_loss, batch=[x])
