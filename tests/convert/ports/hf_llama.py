"""transformers' Llama in NNX."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from transformers import LlamaConfig, LlamaForCausalLM

from twingrad import Pair

CONFIG = LlamaConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    vocab_size=61,
    max_position_embeddings=32,
    attn_implementation="eager",
)


def rotated(x, base):
    """Rotary positions: the two halves of each head's dimensions are turned together."""
    T, D = x.shape[1], x.shape[-1]
    frequencies = 1.0 / base ** (jnp.arange(0, D, 2, dtype=jnp.float32) / D)
    angles = jnp.arange(T, dtype=jnp.float32)[:, None] * frequencies
    cos, sin = (jnp.tile(f(angles), 2)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x, 2, axis=-1)
    return x * cos + jnp.concatenate([-second, first], axis=-1) * sin


class Attention(nnx.Module):
    """Causal self-attention whose queries share keys and values in groups."""

    def __init__(self, config, rngs):
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.groups, self.base = config.num_key_value_heads, config.rope_parameters["rope_theta"]
        size = width // self.heads
        self.q_proj = nnx.Linear(width, self.heads * size, use_bias=False, rngs=rngs)
        self.k_proj = nnx.Linear(width, self.groups * size, use_bias=False, rngs=rngs)
        self.v_proj = nnx.Linear(width, self.groups * size, use_bias=False, rngs=rngs)
        self.o_proj = nnx.Linear(self.heads * size, width, use_bias=False, rngs=rngs)

    def __call__(self, x):
        B, T, _ = x.shape
        q = rotated(self.q_proj(x).reshape(B, T, self.heads, -1), self.base)
        k = rotated(self.k_proj(x).reshape(B, T, self.groups, -1), self.base)
        v = self.v_proj(x).reshape(B, T, self.groups, -1)
        k, v = (jnp.repeat(part, self.heads // self.groups, axis=2) for part in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
        return self.o_proj(jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v).reshape(B, T, -1))


class MLP(nnx.Module):
    """SwiGLU."""

    def __init__(self, config, rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nnx.Linear(width, inner, use_bias=False, rngs=rngs)
        self.up_proj = nnx.Linear(width, inner, use_bias=False, rngs=rngs)
        self.down_proj = nnx.Linear(inner, width, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.down_proj(nnx.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nnx.Module):
    """Attention and MLP, each behind a norm and beside a residual."""

    def __init__(self, config, rngs):
        width, epsilon = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = nnx.RMSNorm(width, epsilon=epsilon, rngs=rngs)
        self.self_attn = Attention(config, rngs)
        self.post_attention_layernorm = nnx.RMSNorm(width, epsilon=epsilon, rngs=rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nnx.Module):
    """Llama with a head of its own."""

    def __init__(self, config, rngs):
        width = config.hidden_size
        self.embed_tokens = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm = nnx.RMSNorm(width, epsilon=config.rms_norm_eps, rngs=rngs)
        self.lm_head = nnx.Linear(width, config.vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def torch_loss(model, ids):
    logits = model(ids).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def jax_loss(model, ids):
    log_p = jax.nn.log_softmax(model(ids)[:, :-1])
    return -jnp.take_along_axis(log_p, ids[:, 1:, None], axis=-1).mean()


pair = Pair(
    torch=lambda: LlamaForCausalLM(CONFIG),
    jax=lambda: Llama(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=[np.random.default_rng(0).integers(CONFIG.vocab_size, size=(2, 9))],
    name="Llama",
)
