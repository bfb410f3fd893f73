"""transformers' Mamba and a port to Flax NNX: a causal convolution and jax.lax.scan."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import MambaConfig, MambaForCausalLM

from twingrad import Pair

CONFIG = MambaConfig(
    vocab_size=61,
    hidden_size=16,
    state_size=4,
    num_hidden_layers=2,
    conv_kernel=4,
    time_step_rank=3,
    use_cache=False,
    use_associative_scan=False,
)


def make_torch():
    torch.manual_seed(0)
    model = MambaForCausalLM(CONFIG)
    for name, p in model.named_parameters():
        if "norm" in name or name.endswith(".D"):
            torch.nn.init.normal_(p, mean=1.0, std=0.1)
        elif not name.endswith("A_log"):
            torch.nn.init.normal_(p, std=0.3)
        else:
            p.data += 0.2 * torch.randn_like(p)
    return model


class RMSNorm(nnx.Module):
    def __init__(self, config):
        self.weight = nnx.Param(jnp.ones(config.hidden_size))
        self.epsilon = config.layer_norm_epsilon

    def __call__(self, x):
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt(jnp.mean(h * h, axis=-1, keepdims=True) + self.epsilon)
        return self.weight * h.astype(x.dtype)


def selective_scan(u, dt, A, B, C, D):
    """Scan x' = exp(dt A) x + dt B u over time; y = C x + D u. All are [B, T, ...]."""

    def step(state, now):
        u, dt, B, C = now
        state = jnp.exp(dt[..., None] * A) * state + (dt * u)[..., None] * B[:, None, :]
        return state, jnp.einsum("bds,bs->bd", state, C)

    start = jnp.zeros((u.shape[0], *A.shape), u.dtype)
    over_time = jax.tree.map(lambda x: x.swapaxes(0, 1), (u, dt, B, C))
    _, y = jax.lax.scan(step, start, over_time)
    return y.swapaxes(0, 1) + u * D


class Mixer(nnx.Module):
    def __init__(self, config, rngs):
        C, E, S, R = (
            config.hidden_size,
            config.intermediate_size,
            config.state_size,
            config.time_step_rank,
        )
        self.rank, self.states = R, S
        self.in_proj = nnx.Linear(C, 2 * E, use_bias=False, rngs=rngs)
        self.conv1d = nnx.Conv(
            E,
            E,
            config.conv_kernel,
            feature_group_count=E,
            padding=[(config.conv_kernel - 1, 0)],
            rngs=rngs,
        )
        self.x_proj = nnx.Linear(E, R + 2 * S, use_bias=False, rngs=rngs)
        self.dt_proj = nnx.Linear(R, E, rngs=rngs)
        self.A_log = nnx.Param(jnp.zeros((E, S)))
        self.D = nnx.Param(jnp.ones(E))
        self.out_proj = nnx.Linear(E, C, use_bias=False, rngs=rngs)

    def __call__(self, x):
        u, gate = jnp.split(self.in_proj(x), 2, axis=-1)
        u = jax.nn.silu(self.conv1d(u))
        low, B, C = jnp.split(self.x_proj(u), [self.rank, self.rank + self.states], axis=-1)
        dt = jax.nn.softplus(self.dt_proj(low))
        A = -jnp.exp(self.A_log.astype(jnp.float32))
        y = selective_scan(u, dt, A, B, C, self.D[...])
        return self.out_proj(y * jax.nn.silu(gate))


class Block(nnx.Module):
    def __init__(self, config, rngs):
        self.norm = RMSNorm(config)
        self.mixer = Mixer(config, rngs)

    def __call__(self, x):
        return x + self.mixer(self.norm(x))


class Mamba(nnx.Module):
    def __init__(self, config, rngs):
        self.embeddings = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.layers = nnx.List([Block(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm_f = RMSNorm(config)

    def __call__(self, ids):
        x = self.embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return self.embeddings.attend(self.norm_f(x))


def torch_loss(model, ids):
    return model(input_ids=ids, labels=ids).loss


def jax_loss(model, ids):
    logits = model(ids)[:, :-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean()


pair = Pair(
    torch=make_torch,
    jax=lambda: Mamba(CONFIG, nnx.Rngs(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=[np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 9))],
    name="transformers Mamba",
)
