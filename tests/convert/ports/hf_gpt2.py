"""transformers' GPT-2 in NNX."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from transformers import GPT2Config, GPT2LMHeadModel

from twingrad import Pair

# The memory test asks for GPT-2 small; all others convert a tiny one.
SIZES = (
    {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024}
    if os.environ.get("GPT2") == "small"
    else {"n_layer": 2, "n_embd": 24, "n_head": 3, "vocab_size": 61, "n_positions": 16}
)
CONFIG = GPT2Config(
    **SIZES, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0
)


class Attention(nnx.Module):
    """Causal self-attention with one matrix for queries, keys and values."""

    def __init__(self, width, heads, rngs):
        self.c_attn = nnx.Linear(width, 3 * width, rngs=rngs)
        self.c_proj = nnx.Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(self, x):
        B, T, C = x.shape
        q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
        q, k, v = (part.reshape(B, T, self.heads, -1) for part in (q, k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(C // self.heads)
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v)
        return self.c_proj(mixed.reshape(B, T, C))


class MLP(nnx.Module):
    """Two layers with GELU between them."""

    def __init__(self, width, rngs):
        self.c_fc = nnx.Linear(width, 4 * width, rngs=rngs)
        self.c_proj = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        return self.c_proj(nnx.gelu(self.c_fc(x), approximate=True))


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, config, rngs):
        width = config.n_embd
        norm = {"epsilon": config.layer_norm_epsilon, "use_fast_variance": False, "rngs": rngs}
        self.ln_1 = nnx.LayerNorm(width, **norm)
        self.attn = Attention(width, config.n_head, rngs)
        self.ln_2 = nnx.LayerNorm(width, **norm)
        self.mlp = MLP(width, rngs)

    def __call__(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nnx.Module):
    """GPT-2 with its token embedding as head."""

    def __init__(self, config, rngs):
        self.wte = nnx.Embed(config.vocab_size, config.n_embd, rngs=rngs)
        self.wpe = nnx.Embed(config.n_positions, config.n_embd, rngs=rngs)
        self.h = nnx.List([Block(config, rngs) for _ in range(config.n_layer)])
        self.ln_f = nnx.LayerNorm(
            config.n_embd, epsilon=config.layer_norm_epsilon, use_fast_variance=False, rngs=rngs
        )

    def __call__(self, ids):
        x = self.wte(ids) + self.wpe(jnp.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


def torch_loss(model, ids):
    logits = model(ids).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def jax_loss(model, ids):
    log_p = jax.nn.log_softmax(model(ids)[:, :-1])
    return -jnp.take_along_axis(log_p, ids[:, 1:, None], axis=-1).mean()


pair = Pair(
    torch=lambda: GPT2LMHeadModel(CONFIG),
    jax=lambda: GPT2(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=[np.random.default_rng(0).integers(CONFIG.vocab_size, size=(2, 9))],
    name="GPT-2",
)
