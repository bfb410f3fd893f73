import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(9, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 9)

    def forward(self, ids):
        return self.head(self.norm(self.embed(ids).cumsum(1)))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(9, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(8, 9, rngs=rngs)

    def __call__(self, ids):
        return self.head(self.norm(jnp.cumsum(self.embed(ids), 1)))


def torch_loss(model, ids):
    logits = model(ids)
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def jax_loss(model, ids):
    logits = model(ids)
    each = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, :-1])
    return each.mean()


ids = np.random.default_rng(0).integers(0, 9, (3, 7))
pair = Pair(
    torch=Net,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids,),
)
