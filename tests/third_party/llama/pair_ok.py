"""transformers' Llama and a port to Flax NNX: fused projections, a table of angles, padded rows."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from twingrad import Pair, To

CONFIG = LlamaConfig(
    vocab_size=61,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=32,
    initializer_range=0.2,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    use_cache=False,
)
IGNORED = -100


def make_torch():
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    for name, p in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(p, mean=1.0, std=0.1)
    return model


def rope_table(config):
    """Cosine and sine of every position, (positions, half of a head)."""
    theta = config.rope_parameters["rope_theta"]
    frequencies = 1.0 / theta ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    angles = np.outer(np.arange(config.max_position_embeddings), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x, cos, sin):
    """Apply the rotary embedding to (B, T, heads, D)."""
    a, b = jnp.split(x, 2, axis=-1)
    cos, sin = cos[None, :, None, :], sin[None, :, None, :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class RMSNorm(nnx.Module):
    def __init__(self, size, epsilon):
        self.weight = nnx.Param(jnp.ones(size))
        self.epsilon = epsilon

    def __call__(self, x):
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + self.epsilon)
        return self.weight * h.astype(x.dtype)


class Attention(nnx.Module):
    def __init__(self, config, rngs):
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = config.head_dim
        width = (self.heads + 2 * self.kv_heads) * self.size
        self.qkv_proj = nnx.Linear(config.hidden_size, width, use_bias=False, rngs=rngs)
        self.o_proj = nnx.Linear(
            self.heads * self.size, config.hidden_size, use_bias=False, rngs=rngs
        )

    def __call__(self, x, cos, sin, mask):
        B, T, _ = x.shape
        H, K, D = self.heads, self.kv_heads, self.size
        q, k, v = jnp.split(self.qkv_proj(x).reshape(B, T, -1, D), [H, H + K], axis=2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        q = q.reshape(B, T, K, H // K, D)
        scores = jnp.einsum("btkgd,bskd->bkgts", q, k) * D**-0.5
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(x.dtype)
        y = jnp.einsum("bkgts,bskd->btkgd", weights, v)
        return self.o_proj(y.reshape(B, T, H * D))


class MLP(nnx.Module):
    def __init__(self, config, rngs):
        C, F = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nnx.Linear(C, 2 * F, use_bias=False, rngs=rngs)
        self.down_proj = nnx.Linear(F, C, use_bias=False, rngs=rngs)

    def __call__(self, x):
        gate, up = jnp.split(self.gate_up_proj(x), 2, axis=-1)
        return self.down_proj(jax.nn.silu(gate) * up)


class DecoderLayer(nnx.Module):
    def __init__(self, config, rngs):
        C, epsilon = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(C, epsilon)
        self.self_attn = Attention(config, rngs)
        self.post_attention_layernorm = RMSNorm(C, epsilon)
        self.mlp = MLP(config, rngs)

    def __call__(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nnx.Module):
    def __init__(self, config, rngs):
        C = config.hidden_size
        self.embed_tokens = nnx.Embed(config.vocab_size, C, rngs=rngs)
        self.layers = nnx.List(
            [DecoderLayer(config, rngs) for _ in range(config.num_hidden_layers)]
        )
        self.norm = RMSNorm(C, config.rms_norm_eps)
        self.lm_head = nnx.Linear(C, config.vocab_size, use_bias=False, rngs=rngs)
        self.cos, self.sin = rope_table(config)

    def __call__(self, ids, attention_mask):
        T = ids.shape[1]
        x = self.embed_tokens(ids)
        cos, sin = (jnp.asarray(table[:T], x.dtype) for table in (self.cos, self.sin))
        mask = jnp.tril(jnp.ones((T, T), bool))[None] & attention_mask[:, None, :].astype(bool)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.lm_head(self.norm(x))


def torch_loss(model, ids, attention_mask, labels):
    return model(input_ids=ids, attention_mask=attention_mask, labels=labels).loss


def jax_loss(model, ids, attention_mask, labels):
    logits, labels = model(ids, attention_mask)[:, :-1], labels[:, 1:]
    counted = labels != IGNORED
    picked = jnp.where(counted, labels, 0)[..., None]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), picked, axis=-1)[..., 0]
    return jnp.where(counted, losses, 0.0).sum() / counted.sum()


random = np.random.default_rng(0)
ids = random.integers(0, CONFIG.vocab_size, (4, 10))
attention_mask = (np.arange(10) < np.array([10, 7, 9, 5])[:, None]).astype(np.int64)
labels = np.where(attention_mask == 1, ids, IGNORED)
pair = Pair(
    torch=make_torch,
    jax=lambda: Llama(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids, attention_mask, labels),
    names={
        **{
            tuple(f"model.layers.{n}.self_attn.{part}_proj.weight" for part in "qkv"): To(
                f"layers.{n}.self_attn.qkv_proj.kernel"
            ).concatenate(axis=1)
            for n in range(CONFIG.num_hidden_layers)
        },
        **{
            tuple(f"model.layers.{n}.mlp.{part}_proj.weight" for part in ("gate", "up")): To(
                f"layers.{n}.mlp.gate_up_proj.kernel"
            ).concatenate(axis=1)
            for n in range(CONFIG.num_hidden_layers)
        },
    },
    name="transformers Llama",
)
