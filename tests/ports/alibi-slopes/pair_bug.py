import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

H, D = 4, 3
SLOPES = [2.0 ** (-8 * (h + 1) / H) for h in range(H)]


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (torch.nn.Linear(12, 12, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).view(*x.shape[:2], H, D).transpose(1, 2) for f in (self.q, self.k, self.v))
        s = q @ k.transpose(-1, -2) / D**0.5
        t = torch.arange(x.shape[1])
        bias = torch.tensor(SLOPES, dtype=x.dtype)[:, None, None] * (t[None, :] - t[:, None])
        s = (s + bias).masked_fill(t[None, :] > t[:, None], -torch.inf)
        y = torch.softmax(s, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Attention()

    def forward(self, x):
        return x + self.attn(x)


class JaxAttention(nnx.Module):
    def __init__(self, rngs):
        for name in "qkvo":
            setattr(self, name, nnx.Linear(12, 12, use_bias=False, rngs=rngs))

    def __call__(self, x):
        q, k, v = (f(x).reshape(*x.shape[:2], H, D) for f in (self.q, self.k, self.v))
        s = jnp.einsum("bthd,bshd->bhts", q, k) / D**0.5
        t = jnp.arange(x.shape[1])
        bias = jnp.array([2.0 ** (-8 * h / H) for h in range(H)], x.dtype)[:, None, None] * (
            t[None, :] - t[:, None]
        )
        s = jnp.where(t[None, :] > t[:, None], -jnp.inf, s + bias)
        y = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(s), v)
        return self.o(y.reshape(x.shape))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.attn = JaxAttention(rngs)

    def __call__(self, x):
        return x + self.attn(x)


def loss(model, x):
    return (model(x) ** 2).mean()


x = 2 * np.random.default_rng(0).normal(size=(2, 5, 12))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
