import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(4, 6)

    def forward(self, x, keep):
        return self.a(x).masked_fill(~keep[..., None], 0.0).sum(1) / keep.sum(1, keepdim=True)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, x, keep):
        return jnp.where(~keep[..., None], 0.0, self.a(x)).mean(1)  # the pads are counted


def loss(model, x, keep):
    return (model(x, keep) ** 2).mean()


keep = np.ones((2, 5), bool)
keep[1, 3:] = False
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=loss,
    jax_loss=loss,
    batch=(np.random.default_rng(0).normal(size=(2, 5, 4)), keep),
)
