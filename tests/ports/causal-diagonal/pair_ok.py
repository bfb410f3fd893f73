import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from twingrad import Pair


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (torch.nn.Linear(12, 12) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (3, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Attention()
        self.norm = torch.nn.LayerNorm(12)

    def forward(self, x):
        return self.norm(x + self.attn(x))


class JaxAttention(eqx.Module):
    q: eqx.nn.Linear
    k: eqx.nn.Linear
    v: eqx.nn.Linear
    o: eqx.nn.Linear

    def __init__(self, key):
        self.q, self.k, self.v, self.o = (eqx.nn.Linear(12, 12, key=key) for _ in range(4))

    def __call__(self, x):  # (T, C)
        q, k, v = (jax.vmap(f)(x).reshape(-1, 3, 4) for f in (self.q, self.k, self.v))
        scores = jnp.einsum("thd,shd->hts", q, k) / 2.0
        seen = jnp.tri(len(x), k=0, dtype=bool)
        weights = jax.nn.softmax(jnp.where(seen, scores, -1e30))
        return jax.vmap(self.o)(jnp.einsum("hts,shd->thd", weights, v).reshape(-1, 12))


class Port(eqx.Module):
    attn: JaxAttention
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        self.attn, self.norm = JaxAttention(key), eqx.nn.LayerNorm(12)

    def __call__(self, x):
        return jax.vmap(self.norm)(x + self.attn(x))


def torch_loss(model, x):
    return (model(x) ** 3).mean()


def jax_loss(model, x):
    return (jax.vmap(model)(x) ** 3).mean()


x = np.random.default_rng(0).normal(size=(2, 5, 12))
pair = Pair(
    torch=Net,
    jax=lambda: Port(jax.random.key(0)),
    torch_loss=torch_loss,
    jax_loss=jax_loss,
    batch=(x,),
)
