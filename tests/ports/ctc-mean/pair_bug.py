import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import optax
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 6))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, x):
        return self.head(x)


def torch_loss(model, x, labels, lengths):
    logits = model(x).log_softmax(-1).transpose(0, 1)
    return torch.nn.functional.ctc_loss(logits, labels, torch.full((len(x),), x.shape[1]), lengths)


def jax_loss(model, x, labels, lengths):
    pads = (jnp.arange(labels.shape[1])[None] >= lengths[:, None]).astype(x.dtype)
    losses = optax.ctc_loss(model(x), jnp.zeros(x.shape[:2], x.dtype), labels, pads)
    return losses.mean()


random = np.random.default_rng(0)
labels = random.integers(1, 6, size=(3, 4))
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(random.normal(size=(3, 12, 4)), labels, np.array([4, 2, 3])),
)
