import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair

H, D = 2, 6


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (torch.nn.Linear(12, 12, bias=False) for _ in range(4))

    def rope(self, x):  # rotate half, as GPT-NeoX and Hugging Face have it
        t = torch.arange(x.shape[2], dtype=x.dtype)
        angle = t[:, None] / 10000 ** (torch.arange(0, D, 2, dtype=x.dtype) / D)
        cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def forward(self, x):
        q, k, v = (f(x).view(*x.shape[:2], H, D).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = torch.nn.functional.scaled_dot_product_attention(
            self.rope(q), self.rope(k), v, is_causal=True
        )
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

    def rope(self, x):
        angle = jnp.arange(x.shape[1])[:, None] / 10000 ** (jnp.arange(0, D, 2) / D)
        cos, sin = jnp.tile(jnp.cos(angle), 2), jnp.tile(jnp.sin(angle), 2)
        other = jnp.concatenate([-x[..., D // 2 :], x[..., : D // 2]], -1)
        return x * cos[:, None].astype(x.dtype) + other * sin[:, None].astype(x.dtype)

    def __call__(self, x):
        q, k, v = (f(x).reshape(*x.shape[:2], H, D) for f in (self.q, self.k, self.v))
        y = jax.nn.dot_product_attention(self.rope(q), self.rope(k), v, is_causal=True)
        return self.o(y.reshape(x.shape))


class Port(nnx.Module):
    def __init__(self, rngs):
        self.attn = JaxAttention(rngs)

    def __call__(self, x):
        return x + self.attn(x)


def loss(model, x):
    return (model(x) ** 2).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 12))
pair = Pair(torch=Net, jax=lambda: Port(nnx.Rngs(0)), torch_loss=loss, jax_loss=loss, batch=(x,))
