import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from twingrad import Pair

H, K, D, C, V, F = 4, 2, 4, 16, 17, 24


def make_torch():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=C,
            intermediate_size=F,
            num_hidden_layers=2,
            num_attention_heads=H,
            num_key_value_heads=K,
            vocab_size=V,
            max_position_embeddings=32,
            initializer_range=0.3,
            attn_implementation="eager",
            use_cache=False,
        )
    )


def linear(i, o, rngs):
    return nnx.Linear(i, o, use_bias=False, rngs=rngs)


class Norm(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(C))

    def __call__(self, x):
        return self.weight * (x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6))


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.q_proj, self.k_proj = linear(C, H * D, rngs), linear(C, K * D, rngs)
        self.v_proj, self.o_proj = linear(C, K * D, rngs), linear(H * D, C, rngs)

    def __call__(self, x):
        B, T, _ = x.shape
        q, k, v = (f(x).reshape(B, T, -1, D) for f in (self.q_proj, self.k_proj, self.v_proj))
        angle = jnp.arange(T)[:, None] / 10000 ** (jnp.arange(0, D, 2) / D)
        cos, sin = (jnp.tile(f(angle), 2)[:, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))

        def rope(x):
            return x * cos + jnp.concatenate([-x[..., D // 2 :], x[..., : D // 2]], -1) * sin

        k, v = jnp.tile(rope(k), (1, 1, H // K, 1)), jnp.tile(v, (1, 1, H // K, 1))
        s = jnp.einsum("bthd,bshd->bhts", rope(q), k) / D**0.5
        s = jnp.where(jnp.tril(jnp.ones((T, T), bool)), s, -jnp.inf)
        return self.o_proj(jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(s), v).reshape(B, T, -1))


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.gate_proj, self.up_proj, self.down_proj = (
            linear(C, F, rngs),
            linear(C, F, rngs),
            linear(F, C, rngs),
        )

    def __call__(self, x):
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.self_attn, self.mlp = Attention(rngs), MLP(rngs)
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()

    def __call__(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.embed_tokens = nnx.Embed(V, C, rngs=rngs)
        self.layers = nnx.List(Layer(rngs) for _ in range(2))
        self.norm = Norm()

    def __call__(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.model, self.lm_head = Model(rngs), linear(C, V, rngs)

    def __call__(self, ids):
        return self.lm_head(self.model(ids))


def torch_loss(model, ids):
    return model(input_ids=ids, labels=ids).loss


def jax_loss(model, ids):
    logits = jax.nn.log_softmax(model(ids)[:, :-1])
    return -jnp.take_along_axis(logits, ids[:, 1:, None], -1).mean()


ids = np.random.default_rng(0).integers(0, V, (2, 7))
pair = Pair(
    torch=make_torch,
    jax=lambda: Port(nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(ids,),
)
