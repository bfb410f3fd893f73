"""A pair with a square weight that either layout fits, in models that agree in neither."""

import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        return x @ self.kernel


pair = Pair(
    torch=Net,
    jax=lambda: (lambda p, x: 2 * (x @ p["kernel"]), {"kernel": jnp.zeros((4, 4))}),
    batch=[np.random.default_rng(0).normal(size=(3, 4))],
)
