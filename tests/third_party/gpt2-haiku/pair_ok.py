"""transformers' GPT-2 and a port to Haiku."""

import haiku as hk
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


def layer_norm(name):
    return hk.LayerNorm(-1, True, True, eps=CONFIG.layer_norm_epsilon, name=name)


class Attention(hk.Module):
    def __call__(self, x):
        B, T, C = x.shape
        qkv = hk.Linear(3 * C, name="qkv")(x)
        q, k, v = (
            y.reshape(B, T, CONFIG.n_head, -1).transpose(0, 2, 1, 3)
            for y in jnp.split(qkv, 3, axis=-1)
        )
        scores = jnp.matmul(q, k.swapaxes(-1, -2)) / np.sqrt(C // CONFIG.n_head)
        scores = jnp.where(jnp.tri(T, dtype=bool), scores, -1e30)
        y = jnp.matmul(jax.nn.softmax(scores), v).transpose(0, 2, 1, 3).reshape(B, T, C)
        return hk.Linear(C, name="out")(y)


class Block(hk.Module):
    def __call__(self, x):
        C = x.shape[-1]
        x = x + Attention(name="attn")(layer_norm("ln_1")(x))
        h = jax.nn.gelu(hk.Linear(4 * C, name="fc")(layer_norm("ln_2")(x)))
        return x + hk.Linear(C, name="proj")(h)


def gpt2(ids):
    T, C = ids.shape[1], CONFIG.n_embd
    wte = hk.Embed(CONFIG.vocab_size, C, name="wte")
    wpe = hk.get_parameter("wpe", [CONFIG.n_positions, C], init=jnp.zeros)
    x = wte(ids) + wpe[:T]
    for n in range(CONFIG.n_layer):
        x = Block(name=f"h_{n}")(x)
    return layer_norm("ln_f")(x) @ wte.embeddings.T


def make_jax():
    transformed = hk.without_apply_rng(hk.transform(gpt2))
    return transformed, transformed.init(jax.random.key(0), ids)


def torch_loss(model, ids):
    output = model(input_ids=ids, labels=ids, use_cache=False)
    return output.loss, output.logits


def jax_loss(model, ids):
    logits = model(ids)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], ids[:, 1:])
    return losses.mean(), logits


ids = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 11))
LAYER, OURS = r"re:transformer\.h\.(\d+)\.", r"h_\1."
pair = Pair(
    torch=make_torch,
    jax=make_jax,
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=[ids],
    names={
        "transformer.wte.weight": "wte.embeddings",
        "transformer.wpe.weight": "wpe",
        LAYER + r"(ln_\d)\.weight": OURS + r"\2.scale",
        LAYER + r"(ln_\d)\.bias": OURS + r"\2.offset",
        LAYER + r"attn\.c_attn\.weight": OURS + "attn.qkv.w",
        LAYER + r"attn\.c_attn\.bias": OURS + "attn.qkv.b",
        LAYER + r"attn\.c_proj\.weight": OURS + "attn.out.w",
        LAYER + r"attn\.c_proj\.bias": OURS + "attn.out.b",
        LAYER + r"mlp\.c_fc\.weight": OURS + "fc.w",
        LAYER + r"mlp\.c_fc\.bias": OURS + "fc.b",
        LAYER + r"mlp\.c_proj\.weight": OURS + "proj.w",
        LAYER + r"mlp\.c_proj\.bias": OURS + "proj.b",
        "transformer.ln_f.weight": "ln_f.scale",
        "transformer.ln_f.bias": "ln_f.offset",
    },
    name="transformers GPT-2 in Haiku",
)
