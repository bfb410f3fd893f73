"""transformers' T5 (gated, tied) and a port to Flax NNX with one module for both stacks."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from twingrad import Pair

CONFIG = T5Config(
    vocab_size=61,
    d_model=24,
    d_kv=6,
    d_ff=40,
    num_layers=2,
    num_heads=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
    decoder_start_token_id=0,
    use_cache=False,
)
IGNORED = -100


def make_torch():
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(CONFIG)
    for name, p in model.named_parameters():
        mean = 1.0 if "layer_norm" in name else 0.0
        torch.nn.init.normal_(p, mean=mean, std=0.25)
    return model


def bucket(distance, both_ways, buckets, farthest):
    """The bucket of each relative position: exact ones first, then logarithmic ones."""
    first = 0
    if both_ways:
        buckets //= 2
        first = np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, 1) / exact) / np.log(farthest / exact)
    far = np.minimum(exact + (ratio * (buckets - exact)).astype(int), buckets - 1)
    return first + np.where(distance < exact, distance, far)


class RMSNorm(nnx.Module):
    def __init__(self, config):
        self.scale = nnx.Param(jnp.ones(config.d_model))
        self.epsilon = config.layer_norm_epsilon

    def __call__(self, x):
        variance = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(variance + self.epsilon)).astype(x.dtype) * self.scale


class Attention(nnx.Module):
    def __init__(self, config, rngs):
        self.heads, self.size = config.num_heads, config.d_kv
        inner = self.heads * self.size
        self.q, self.k, self.v = (
            nnx.Linear(config.d_model, inner, use_bias=False, rngs=rngs) for _ in range(3)
        )
        self.o = nnx.Linear(inner, config.d_model, use_bias=False, rngs=rngs)

    def __call__(self, x, source, bias):
        B, T, S, H = *x.shape[:2], source.shape[1], self.heads
        q = self.q(x).reshape(B, T, H, -1)
        k, v = self.k(source).reshape(B, S, H, -1), self.v(source).reshape(B, S, H, -1)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) + bias
        weights = jax.nn.softmax(scores, axis=-1)
        y = jnp.einsum("bhts,bshd->bthd", weights, v)
        return self.o(y.reshape(B, T, -1))


class GatedMLP(nnx.Module):
    def __init__(self, config, rngs):
        C, F = config.d_model, config.d_ff
        self.wi_0 = nnx.Linear(C, F, use_bias=False, rngs=rngs)
        self.wi_1 = nnx.Linear(C, F, use_bias=False, rngs=rngs)
        self.wo = nnx.Linear(F, C, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.wo(jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x))


class Block(nnx.Module):
    def __init__(self, config, crosses, rngs):
        self.attn_norm, self.attn = RMSNorm(config), Attention(config, rngs)
        self.crosses = crosses
        if crosses:
            self.cross_norm, self.cross_attn = RMSNorm(config), Attention(config, rngs)
        self.mlp_norm, self.mlp = RMSNorm(config), GatedMLP(config, rngs)

    def __call__(self, x, bias, memory=None, memory_bias=None):
        h = self.attn_norm(x)
        x = x + self.attn(h, h, bias)
        if self.crosses:
            x = x + self.cross_attn(self.cross_norm(x), memory, memory_bias)
        return x + self.mlp(self.mlp_norm(x))


class Stack(nnx.Module):
    def __init__(self, config, decodes, rngs):
        self.config, self.decodes = config, decodes
        self.relative_bias = nnx.Embed(
            config.relative_attention_num_buckets, config.num_heads, rngs=rngs
        )
        self.blocks = nnx.List([Block(config, decodes, rngs) for _ in range(config.num_layers)])
        self.final_norm = RMSNorm(config)

    def position_bias(self, T):
        places = np.arange(T)
        table = bucket(
            places[None, :] - places[:, None],
            not self.decodes,
            self.config.relative_attention_num_buckets,
            self.config.relative_attention_max_distance,
        )
        return self.relative_bias(jnp.asarray(table)).transpose(2, 0, 1)[None]

    def __call__(self, x, hidden, memory=None, memory_hidden=None):
        lowest = jnp.finfo(jnp.float32).min
        bias = self.position_bias(x.shape[1]) + jnp.where(hidden, lowest, 0.0)
        memory_bias = None if memory is None else jnp.where(memory_hidden, lowest, 0.0)
        for block in self.blocks:
            x = block(x, bias, memory, memory_bias)
        return self.final_norm(x)


class T5(nnx.Module):
    def __init__(self, config, rngs):
        self.config = config
        self.embed = nnx.Embed(config.vocab_size, config.d_model, rngs=rngs)
        self.encoder = Stack(config, False, rngs)
        self.decoder = Stack(config, True, rngs)

    def __call__(self, ids, attention_mask, labels):
        padded = attention_mask[:, None, None, :] == 0
        memory = self.encoder(self.embed(ids), padded)
        before = jnp.where(labels == IGNORED, 0, labels)[:, :-1]
        decoder_ids = jnp.pad(before, ((0, 0), (1, 0)))
        T = labels.shape[1]
        later = jnp.triu(jnp.ones((T, T), bool), 1)[None, None]
        x = self.decoder(self.embed(decoder_ids), later, memory, padded)
        return self.embed.attend(x * self.config.d_model**-0.5)


def torch_loss(model, ids, attention_mask, labels):
    return model(input_ids=ids, attention_mask=attention_mask, labels=labels).loss


def jax_loss(model, ids, attention_mask, labels):
    logits = model(ids, attention_mask, labels)
    counted = labels != IGNORED
    picked = jnp.where(counted, labels, 0)[..., None]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), picked, axis=-1)[..., 0]
    return jnp.where(counted, losses, 0.0).sum() / counted.sum()


random = np.random.default_rng(0)
attention_mask = (np.arange(12) < np.array([12, 9, 11])[:, None]).astype(np.int64)
ids = random.integers(1, CONFIG.vocab_size, (3, 12)) * attention_mask
labels = random.integers(1, CONFIG.vocab_size, (3, 10))
labels[np.arange(10) >= np.array([10, 8, 7])[:, None]] = IGNORED
LAYER, OURS = r"re:(encoder|decoder)\.block\.(\d+)\.layer\.", r"\1.blocks.\2."
pair = Pair(
    torch=make_torch,
    jax=lambda: T5(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids, attention_mask, labels),
    names={
        "shared.weight": "embed.embedding",
        LAYER + r"0\.SelfAttention\.relative_attention_bias\.weight": (
            r"\1.relative_bias.embedding"
        ),
        LAYER + r"0\.SelfAttention\.([qkvo])\.weight": OURS + r"attn.\3.kernel",
        LAYER + r"0\.layer_norm\.weight": OURS + "attn_norm.scale",
        LAYER + r"1\.EncDecAttention\.([qkvo])\.weight": OURS + r"cross_attn.\3.kernel",
        r"re:decoder\.block\.(\d+)\.layer\.1\.layer_norm\.weight": (
            r"decoder.blocks.\1.cross_norm.scale"
        ),
        LAYER + r"[12]\.DenseReluDense\.(wi_0|wi_1|wo)\.weight": OURS + r"mlp.\3.kernel",
        r"re:encoder\.block\.(\d+)\.layer\.1\.layer_norm\.weight": (
            r"encoder.blocks.\1.mlp_norm.scale"
        ),
        r"re:decoder\.block\.(\d+)\.layer\.2\.layer_norm\.weight": (
            r"decoder.blocks.\1.mlp_norm.scale"
        ),
        r"re:(encoder|decoder)\.final_layer_norm\.weight": r"\1.final_norm.scale",
    },
    name="transformers T5",
)
