"""transformers' GPT-2 and a port to Flax NNX that calls JAX's own attention."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from twingrad import Pair

CONFIG = GPT2Config(
    vocab_size=61,
    n_positions=24,
    n_embd=24,
    n_layer=2,
    n_head=3,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
)


def make_torch():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(CONFIG)
    for p in model.parameters():
        torch.nn.init.normal_(p, mean=1.0 if p.ndim == 1 and p.mean() == 1 else 0.0, std=0.15)
    return model


class CausalSelfAttention(nnx.Module):
    def __init__(self, config, rngs):
        self.heads = config.n_head
        self.qkv = nnx.Linear(config.n_embd, 3 * config.n_embd, rngs=rngs)
        self.out = nnx.Linear(config.n_embd, config.n_embd, rngs=rngs)

    def __call__(self, x):
        B, T, C = x.shape
        qkv = self.qkv(x).reshape(B, T, 3, self.heads, C // self.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.reshape(B, T, C))


class Block(nnx.Module):
    def __init__(self, config, rngs):
        C, epsilon = config.n_embd, config.layer_norm_epsilon
        self.norm1 = nnx.LayerNorm(C, epsilon=epsilon, rngs=rngs)
        self.attn = CausalSelfAttention(config, rngs)
        self.norm2 = nnx.LayerNorm(C, epsilon=epsilon, rngs=rngs)
        self.fc_in = nnx.Linear(C, 4 * C, rngs=rngs)
        self.fc_out = nnx.Linear(4 * C, C, rngs=rngs)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        h = nnx.gelu(self.fc_in(self.norm2(x)), approximate=True)
        return x + self.fc_out(h)


class GPT2(nnx.Module):
    def __init__(self, config, rngs):
        self.token_embed = nnx.Embed(config.vocab_size, config.n_embd, rngs=rngs)
        self.position_embed = nnx.Embed(config.n_positions, config.n_embd, rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.n_layer)])
        self.final_norm = nnx.LayerNorm(config.n_embd, epsilon=config.layer_norm_epsilon, rngs=rngs)

    def __call__(self, ids):
        positions = jnp.arange(ids.shape[1])
        x = self.token_embed(ids) + self.position_embed(positions)
        for block in self.blocks:
            x = block(x)
        return self.token_embed.attend(self.final_norm(x))


def torch_loss(model, ids):
    output = model(input_ids=ids, labels=ids, use_cache=False)
    return output.loss, output.logits


def jax_loss(model, ids):
    logits = model(ids)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, 1:])
    return losses.mean(), logits


pair = Pair(
    torch=make_torch,
    jax=lambda: GPT2(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=[np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 11))],
    names={
        "transformer.wte.weight": "token_embed.embedding",
        "transformer.wpe.weight": "position_embed.embedding",
        r"re:transformer\.h\.(\d+)\.ln_(\d)\.weight": r"blocks.\1.norm\2.scale",
        r"re:transformer\.h\.(\d+)\.ln_(\d)\.bias": r"blocks.\1.norm\2.bias",
        r"re:transformer\.h\.(\d+)\.attn\.c_attn\.weight": r"blocks.\1.attn.qkv.kernel",
        r"re:transformer\.h\.(\d+)\.attn\.c_attn\.bias": r"blocks.\1.attn.qkv.bias",
        r"re:transformer\.h\.(\d+)\.attn\.c_proj\.weight": r"blocks.\1.attn.out.kernel",
        r"re:transformer\.h\.(\d+)\.attn\.c_proj\.bias": r"blocks.\1.attn.out.bias",
        r"re:transformer\.h\.(\d+)\.mlp\.c_fc\.weight": r"blocks.\1.fc_in.kernel",
        r"re:transformer\.h\.(\d+)\.mlp\.c_fc\.bias": r"blocks.\1.fc_in.bias",
        r"re:transformer\.h\.(\d+)\.mlp\.c_proj\.weight": r"blocks.\1.fc_out.kernel",
        r"re:transformer\.h\.(\d+)\.mlp\.c_proj\.bias": r"blocks.\1.fc_out.bias",
        "transformer.ln_f.weight": "final_norm.scale",
        "transformer.ln_f.bias": "final_norm.bias",
    },
    name="transformers GPT-2",
)
