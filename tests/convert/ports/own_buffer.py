"""A PyTorch model that computes a buffer which it does not save, and a port that keeps it."""

import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 2)
        self.register_buffer("table", torch.arange(2.0) + 0.5, persistent=False)

    def forward(self, x):
        return self.fc(x) * self.table


def forward(p, x):
    return (x @ p["fc"]["kernel"] + p["fc"]["bias"]) * p["table"]


params = {"fc": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}, "table": jnp.zeros(2)}
pair = Pair(
    torch=Net,
    jax=(forward, params),
    batch=[np.random.default_rng(0).normal(size=(3, 4))],
    names={"table": "table"},
)
