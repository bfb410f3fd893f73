import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class RMSNorm(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(13, 8)
        self.norm = RMSNorm(8)
        self.gate = torch.nn.Linear(8, 16, bias=False)
        self.up = torch.nn.Linear(8, 16, bias=False)
        self.down = torch.nn.Linear(16, 8, bias=False)
        torch.nn.init.normal_(self.norm.weight)

    def forward(self, ids):
        x = self.embed(ids) * 8**0.5
        y = self.norm(x)
        x = x + self.down(torch.nn.functional.gelu(self.gate(y), approximate="tanh") * self.up(y))
        return x @ self.embed.weight.T


class JaxNorm(nnx.Module):
    def __init__(self, n):
        self.scale = nnx.Param(jnp.zeros(n))

    def __call__(self, x):
        return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * (1 + self.scale)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(13, 8, rngs=rngs)
        self.norm = JaxNorm(8)
        self.gate = nnx.Linear(8, 16, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(8, 16, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(16, 8, use_bias=False, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids) * 8**0.5
        y = self.norm(x)
        x = x + self.down(nnx.gelu(self.gate(y)) * self.up(y))
        return self.embed.attend(x)


def torch_loss(model, ids):
    return torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def jax_loss(model, ids):
    logits = nnx.log_softmax(model(ids[:, :-1]))
    return -jnp.take_along_axis(logits, ids[:, 1:, None], -1).mean()


ids = np.random.default_rng(0).integers(0, 13, size=(2, 7))
pair = Pair(
    torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=torch_loss, jax_loss=jax_loss, batch=(ids,)
)
