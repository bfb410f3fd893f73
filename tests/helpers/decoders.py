"""A small decoder with a cache in both frameworks, right, or with a bug in its cached steps.

``embedded`` positions are added to the tokens' embeddings, ``rotary`` ones turn queries and keys.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from twingrad import Decode, Pair

V, C, H, LAYERS, T = 11, 8, 2, 2, 6
D = C // H
# Bugs that calls with a prompt have, or have too; the others are of steps alone.
BUGS = {"prompt lost": [True], "later": [True, False]}
TOKENS = np.random.default_rng(3).integers(V, size=(2, T))
ANGLES = 10.0 ** -np.arange(D // 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(C, 3 * C)
        self.out = nn.Linear(C, C)


class Decoder(nn.Module):
    """PyTorch's: keys and values [B, H, S, D] a layer, written in place."""

    def __init__(self, rotary=False, bug=None):
        super().__init__()
        self.rotary, self.bug = rotary, bug
        self.wte = nn.Embedding(V, C)
        if not rotary:
            self.wpe = nn.Embedding(T + 2, C)
        self.h = nn.ModuleList([Attention() for _ in range(LAYERS)])
        self.head = nn.Linear(C, V)

    def forward(self, tokens):
        return self.step(tokens, None, 0)[0]

    def new_cache(self, rows, length):
        return [tuple(torch.zeros(rows, H, length, D) for _ in "kv") for _ in self.h]

    def turned(self, x, positions):
        angles = positions[:, None] * torch.tensor(ANGLES, dtype=x.dtype)
        sin, cos = torch.sin(angles), torch.cos(angles)
        a, b = x[..., : D // 2], x[..., D // 2 :]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def step(self, tokens, cache, position):
        is_prompt = tokens.shape[1] > 1
        bug = self.bug if cache is not None and is_prompt in BUGS.get(self.bug, [False]) else None
        at = torch.arange(tokens.shape[1]) + position
        positions = at + int(bug == "position")
        x = self.wte(tokens)
        if not self.rotary:
            x = x + self.wpe(positions)
        for layer, attn in enumerate(self.h):
            q, k, v = (
                z.reshape(*z.shape[:2], H, D).transpose(1, 2) for z in attn.qkv(x).chunk(3, -1)
            )
            if self.rotary:
                q, k = self.turned(q, positions), self.turned(k, positions)
            seen = at
            if cache is not None:
                old = cache[layer]
                keys, values = (z.clone() for z in old) if bug == "lost" else old
                keys[:, :, at - int(bug == "index")] = k
                values[:, :, at - int(bug == "index")] = v
                k, v = keys, values
                if bug == "prompt lost":
                    cache[layer] = tuple(torch.zeros_like(z) for z in old)
                seen = torch.arange(k.shape[2])
            scores = q @ k.transpose(-1, -2) / math.sqrt(D)
            if bug != "mask":
                scores = scores.masked_fill(seen > at[:, None] + int(bug == "later"), -torch.inf)
            y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape)
            x = x + attn.out(y)
        return self.head(x), cache


class JaxAttention(nnx.Module):
    def __init__(self, rngs):
        self.qkv = nnx.Linear(C, 3 * C, rngs=rngs)
        self.out = nnx.Linear(C, C, rngs=rngs)


class Port(nnx.Module):
    """JAX's: the cache goes in and comes out."""

    def __init__(self, rotary=False, bug=None, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.rotary, self.bug = rotary, bug
        self.wte = nnx.Embed(V, C, rngs=rngs)
        if not rotary:
            self.wpe = nnx.Embed(T + 2, C, rngs=rngs)
        self.h = nnx.List([JaxAttention(rngs) for _ in range(LAYERS)])
        self.head = nnx.Linear(C, V, rngs=rngs)

    def __call__(self, tokens):
        return self.step(tokens, None, 0)[0]

    def new_cache(self, rows, length):
        shape = (LAYERS, rows, length, H, D)
        return {"keys": jnp.zeros(shape), "values": jnp.zeros(shape)}

    def turned(self, x, positions):
        angles = positions[:, None, None] * jnp.asarray(ANGLES, x.dtype)
        sin, cos = jnp.sin(angles), jnp.cos(angles)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def step(self, tokens, cache, position):
        is_prompt = tokens.shape[1] > 1
        bug = self.bug if cache is not None and is_prompt in BUGS.get(self.bug, [False]) else None
        at = jnp.arange(tokens.shape[1]) + position
        positions = at + int(bug == "position")
        x = self.wte(tokens)
        if not self.rotary:
            x = x + self.wpe(positions)
        after = cache
        for layer, attn in enumerate(self.h):
            q, k, v = (z.reshape(*z.shape[:2], H, D) for z in jnp.split(attn.qkv(x), 3, axis=-1))
            if self.rotary:
                q, k = self.turned(q, positions), self.turned(k, positions)
            seen = at
            if cache is not None:
                index = at - (bug == "index")
                k = after["keys"][layer].at[:, index].set(k)
                v = after["values"][layer].at[:, index].set(v)
                if bug not in ("lost", "prompt lost"):
                    after = {
                        "keys": after["keys"].at[layer].set(k),
                        "values": after["values"].at[layer].set(v),
                    }
                seen = jnp.arange(k.shape[1])
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
            if bug != "mask":
                scores = jnp.where(seen > at[:, None] + int(bug == "later"), -jnp.inf, scores)
            y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v).reshape(x.shape)
            x = x + attn.out(y)
        return self.head(x), after


DECODE = Decode(
    cache=lambda model, rows, length: model.new_cache(rows, length),
    step=lambda model, tokens, cache, position: model.step(tokens, cache, position),
)


def pair(rotary=False, torch_bug=None, jax_bug=None, **changes):
    torch.manual_seed(0)
    given = {"torch_decode": DECODE, "jax_decode": DECODE} | changes
    return Pair(
        torch=lambda: Decoder(rotary, torch_bug),
        jax=lambda: Port(rotary, jax_bug),
        torch_loss=lambda model, tokens: (model(tokens) ** 2).mean(),
        jax_loss=lambda model, tokens: (model(tokens) ** 2).mean(),
        batch=[TOKENS],
        name="decoder",
        **given,
    )
