"""A transformer's block of which one side, or both, computes in float32 or bfloat16 alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from twingrad import Pair

C, H, T, V = 16, 2, 6, 7
X = np.random.default_rng(1).normal(size=(4, T, C))
Y = np.random.default_rng(2).integers(V, size=(4, T))
BUGS = ("epsilon", "gelu", "mask")


def refuse(dtype, where):
    """What a library does that has its dtype written into its kernels."""
    if "64" in str(dtype):
        raise TypeError(f"{where} has no kernel for {dtype}")


class Block(nn.Module):
    def __init__(self, hard=False):
        super().__init__()
        self.hard = hard
        self.norm = nn.LayerNorm(C)
        self.qkv = nn.Linear(C, 3 * C)
        self.out = nn.Linear(C, C)
        self.up = nn.Linear(C, 2 * C)
        self.down = nn.Linear(2 * C, V)

    def forward(self, x):
        if self.hard:
            refuse(x.dtype, "PyTorch's block")
        q, k, v = (
            z.reshape(*z.shape[:2], H, -1).transpose(1, 2)
            for z in self.qkv(self.norm(x)).chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(C // H)
        hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(x.shape))
        return self.down(nn.functional.gelu(self.up(x)))


class Port(nnx.Module):
    def __init__(self, bug=None, hard=True):
        rngs = nnx.Rngs(0)
        self.bug, self.hard = bug, hard
        epsilon = 1e-6 if bug == "epsilon" else 1e-5
        self.norm = nnx.LayerNorm(C, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
        self.qkv = nnx.Linear(C, 3 * C, rngs=rngs)
        self.out = nnx.Linear(C, C, rngs=rngs)
        self.up = nnx.Linear(C, 2 * C, rngs=rngs)
        self.down = nnx.Linear(2 * C, V, rngs=rngs)

    def __call__(self, x):
        if self.hard:
            refuse(x.dtype, "JAX's block")
        q, k, v = (z.reshape(*z.shape[:2], H, -1) for z in jnp.split(self.qkv(self.norm(x)), 3, -1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(C // H)
        seen = jnp.tril(jnp.ones((T, T), bool), 1 if self.bug == "mask" else 0)
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
        x = x + self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))
        return self.down(nnx.gelu(self.up(x), approximate=self.bug == "gelu"))


def torch_loss(model, x, y):
    return nn.functional.cross_entropy(model(x).reshape(-1, V), y.reshape(-1))


def jax_loss(model, x, y):
    chosen = jnp.take_along_axis(jax.nn.log_softmax(model(x)), y[..., None], axis=-1)
    return -chosen.mean()


def pair(bug=None, precision="float32", both=False, hard=True, **changes):
    return Pair(
        torch=lambda: Block(hard=both),
        jax=lambda: Port(bug, hard),
        torch_loss=torch_loss,
        jax_loss=jax_loss,
        batch=[X, Y],
        precision=precision,
        name="block",
        **changes,
    )
