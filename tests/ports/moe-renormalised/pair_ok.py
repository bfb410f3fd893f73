import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

EXPERTS, CHOSEN = 4, 2


class Experts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Linear(8, EXPERTS, bias=False)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(EXPERTS))

    def forward(self, x):
        weights, best = self.gate(x).softmax(-1).topk(CHOSEN)
        weights = weights / weights.sum(-1, keepdim=True)
        outputs = torch.stack([torch.relu(expert(x)) for expert in self.experts], -2)
        chosen = outputs.take_along_dim(best[..., None], -2)
        return (weights[..., None] * chosen).sum(-2)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.moe = Experts()
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(x + self.moe(x))


class JaxExperts(nnx.Module):
    def __init__(self, rngs):
        self.gate = nnx.Linear(8, EXPERTS, use_bias=False, rngs=rngs)
        self.experts = nnx.List(nnx.Linear(8, 8, rngs=rngs) for _ in range(EXPERTS))

    def __call__(self, x):
        weights, best = jax.lax.top_k(jax.nn.softmax(self.gate(x)), CHOSEN)
        weights = weights / weights.sum(-1, keepdims=True)
        outputs = jnp.stack([nnx.relu(expert(x)) for expert in self.experts], -2)
        chosen = jnp.take_along_axis(outputs, best[..., None], -2)
        return (weights[..., None] * chosen).sum(-2)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.moe = JaxExperts(rngs)
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        return self.norm(x + self.moe(x))


def loss(model, x):
    return (model(x) ** 3).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 8))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
