"""The plainest GPT-2 in Flax NNX: written as the framework's examples are."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.speed.backends.backend import Job
from bench.speed.backends.jax_loop import JaxLoop, prepare
from jax_impl import params as jax_params
from shared.config import LAYER_NORM_EPSILON, GPTConfig
from shared.params import Params


class Attention(nnx.Module):
    """Causal attention, written out."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        C = config.emb_dim
        self.heads = config.n_heads
        self.c_attn = nnx.Linear(C, 3 * C, use_bias=config.qkv_bias, rngs=rngs)
        self.c_proj = nnx.Linear(C, C, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        B, T, C = x.shape
        heads = (B, T, self.heads, C // self.heads)
        q, k, v = (z.reshape(heads) for z in jnp.split(self.c_attn(x), 3, axis=-1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(C // self.heads).astype(x.dtype)
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(x.dtype)
        y: Array = self.c_proj(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, C))
        return y


class MLP(nnx.Module):
    """Out to four times the width and back."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        C = config.emb_dim
        self.c_fc = nnx.Linear(C, 4 * C, rngs=rngs)
        self.c_proj = nnx.Linear(4 * C, C, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        y: Array = self.c_proj(nnx.gelu(self.c_fc(x)))
        return y


class Block(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        C = config.emb_dim
        self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.attn = Attention(config, rngs)
        self.ln_2 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, rngs=rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nnx.Module):
    """Token ids to logits."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        C = config.emb_dim
        self.wte = nnx.Embed(config.vocab_size, C, rngs=rngs)
        self.wpe = nnx.Embed(config.context_length, C, rngs=rngs)
        self.h = nnx.List(Block(config, rngs) for _ in range(config.n_layers))
        self.ln_f = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.wte(tokens) + self.wpe(jnp.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        logits: Array = self.wte.attend(self.ln_f(x))
        return logits


class Backend(JaxLoop):
    """The model in the documented loop."""

    def __init__(self, job: Job, params: Params):
        if not job.config.tie_embeddings:
            raise ValueError("flax-reference has a tied head alone: choose a preset that ties")
        runtime = prepare(job)

        def make() -> GPT2:
            return GPT2(job.config, nnx.Rngs(0))

        model = jax_params.build(make, params, runtime.master)
        super().__init__(job, model, runtime)
