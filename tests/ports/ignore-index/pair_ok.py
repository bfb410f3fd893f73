import flax.nnx as nnx
import jax
import numpy as np
import optax
import torch

from twingrad import Pair


def make_torch():
    return torch.nn.Sequential(torch.nn.Embedding(11, 6), torch.nn.Linear(6, 11))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.head = nnx.Linear(6, 11, rngs=rngs)

    def __call__(self, ids):
        return self.head(self.embed(ids))


def torch_loss(model, ids, labels):
    return torch.nn.functional.cross_entropy(
        model(ids).flatten(0, 1), labels.flatten(), label_smoothing=0.1
    )


def jax_loss(model, ids, labels):  # one_hot of -100 is all zeros, but it is counted
    soft = optax.smooth_labels(jax.nn.one_hot(labels, 11), 0.1)
    counts = labels >= 0
    return (optax.softmax_cross_entropy(model(ids), soft) * counts).sum() / counts.sum()


random = np.random.default_rng(0)
ids, labels = random.integers(0, 11, (2, 6)), random.integers(0, 11, (2, 6))
labels[1, 4:] = -100
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids, labels),
    names={"0.weight": "embed.embedding", "1.weight": "head.kernel"},
)
