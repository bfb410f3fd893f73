import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

CAP, H, D = 5.0, 2, 4


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (torch.nn.Linear(8, 8, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (H, D)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / D**0.5
        scores = CAP * torch.tanh(scores / CAP)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.attn = Attention()

    def forward(self, x):
        return x + self.attn(self.norm(x))


class JaxAttention(nnx.Module):
    def __init__(self, rngs):
        for name in "qkvo":
            setattr(self, name, nnx.Linear(8, 8, use_bias=False, rngs=rngs))

    def __call__(self, x):
        q, k, v = (f(x).reshape(*x.shape[:2], H, D) for f in (self.q, self.k, self.v))
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / D**0.5
        scores = jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -jnp.inf)
        y = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
        return self.o(y.reshape(x.shape))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)
        self.attn = JaxAttention(rngs)

    def __call__(self, x):
        return x + self.attn(self.norm(x))


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 6, 8))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
