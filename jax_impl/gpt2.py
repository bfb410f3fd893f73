"""GPT-2 and its loss, in JAX with Flax NNX.

Shape letters: B batch, T time, C width, H heads, D head size (C = H D), V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from jax_impl.loss import cross_entropy, head_loss
from jax_impl.runtime import computes_on_gpu
from shared.config import IGNORED, LAYER_NORM_EPSILON, GPTConfig


def reference_attention(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B T H D"],
    v: Float[Array, "B T H D"],
    dropout: nnx.Dropout,
) -> Float[Array, "B T H D"]:
    """Causal attention written out, with dropout on the weights."""
    T, D = q.shape[1], q.shape[3]
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(D)
    causal = jnp.tril(jnp.ones((T, T), dtype=bool))
    scores = jnp.where(causal, scores, -jnp.inf)
    # The softmax runs in float32 at least, as it does in the fused kernels.
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    weights = dropout(jax.nn.softmax(scores, axis=-1).astype(v.dtype))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def fused_attention(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B T H D"],
    v: Float[Array, "B T H D"],
    dropout: nnx.Dropout,
) -> Float[Array, "B T H D"]:
    """The same by JAX's kernels, which take time before heads and have no dropout."""
    # They compute the softmax in float32 whatever the dtype of q, too coarse for float64.
    if q.dtype == jnp.float64 or (dropout.rate > 0 and not dropout.deterministic):
        return reference_attention(q, k, v, dropout)
    # Named, since JAX never picks it: cuDNN's flash attention, for 16-bit floats on a GPU only.
    flash = computes_on_gpu() and q.dtype.itemsize == 2
    kernel: Literal["cudnn", "xla"] = "cudnn" if flash else "xla"
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)


Attention = Callable[[Array, Array, Array, nnx.Dropout], Array]


class CausalSelfAttention(nnx.Module):
    """Every position attends to itself and to the positions before it."""

    def __init__(self, config: GPTConfig, *, attention: Attention, rngs: nnx.Rngs):
        C = config.emb_dim
        self.n_heads = config.n_heads
        self.attention = attention
        self.c_attn = nnx.Linear(C, 3 * C, use_bias=config.qkv_bias, rngs=rngs)
        self.c_proj = nnx.Linear(C, C, rngs=rngs)
        self.attn_dropout = nnx.Dropout(config.drop_rate, rngs=rngs)
        self.resid_dropout = nnx.Dropout(config.drop_rate, rngs=rngs)

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        B, T, C = x.shape
        q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)
        q, k, v = (z.reshape(B, T, self.n_heads, -1) for z in (q, k, v))  # (B, T, H, D)
        y = self.attention(q, k, v, self.attn_dropout)
        y = y.reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nnx.Module):
    """Each position by itself: from width C to 4 C and back."""

    def __init__(self, config: GPTConfig, *, rngs: nnx.Rngs):
        C = config.emb_dim
        self.c_fc = nnx.Linear(C, 4 * C, rngs=rngs)
        self.c_proj = nnx.Linear(4 * C, C, rngs=rngs)
        self.dropout = nnx.Dropout(config.drop_rate, rngs=rngs)

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        x = self.c_fc(x)  # (B, T, 4 C)
        # GPT-2 has the tanh form; it is JAX's default, written out because PyTorch's is not.
        x = nnx.gelu(x, approximate=True)
        return self.dropout(self.c_proj(x))


class Block(nnx.Module):
    """Pre-norm residual block: x + attention, then x + MLP."""

    def __init__(self, config: GPTConfig, *, attention: Attention, rngs: nnx.Rngs):
        C = config.emb_dim
        # Written out because the defaults differ: epsilon is 1e-6 here and 1e-5 in PyTorch.
        # The fast variance, E[x²] - E[x]², loses digits where the mean is large.
        self.ln_1 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
        self.attn = CausalSelfAttention(config, attention=attention, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT2(nnx.Module):
    """Token ids in, logits over the next token out; parameters come from ``shared.params``.

    ``recompute`` keeps only each block's input for the backward pass, and computes the rest again.
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        attention: Attention = fused_attention,
        recompute: bool = False,
        rngs: nnx.Rngs,
    ):
        C, V = config.emb_dim, config.vocab_size
        self.recompute = recompute
        self.wte = nnx.Embed(V, C, rngs=rngs)
        self.wpe = nnx.Embed(config.context_length, C, rngs=rngs)
        self.drop = nnx.Dropout(config.drop_rate, rngs=rngs)
        self.h = nnx.List(
            Block(config, attention=attention, rngs=rngs) for _ in range(config.n_layers)
        )
        self.ln_f = nnx.LayerNorm(C, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs)
        self.lm_head = (
            None if config.tie_embeddings else nnx.Linear(C, V, use_bias=False, rngs=rngs)
        )

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        return self.logits(self.features(tokens))

    def features(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T C"]:
        """Input of the head: the residual stream after the last norm."""
        T = tokens.shape[1]
        x = self.wte(tokens) + self.wpe(jnp.arange(T))  # (B, T, C)
        x = self.drop(x)
        for block in self.h:
            x = nnx.remat(Block.__call__)(block, x) if self.recompute else block(x)
            # On a CPU XLA otherwise recomputes later blocks' gradients in fusions of earlier ones.
            x = jax.lax.optimization_barrier(x)
        return self.ln_f(x)

    def logits(self, x: Float[Array, "*N C"]) -> Float[Array, "*N V"]:
        """Unnormalised log-probabilities of the next token."""
        # Tied: the token embedding, transposed, so its gradient has two parts.
        return self.wte.attend(x) if self.lm_head is None else self.lm_head(x)


def loss_fn(
    model: GPT2, inputs: Int[Array, "B T"], targets: Int[Array, "B T"]
) -> tuple[Float[Array, ""], Float[Array, "B T V"]]:
    """Mean cross-entropy in nats over the targets that are not ``IGNORED``, and the logits."""
    logits = model(inputs)
    count = (targets != IGNORED).sum()
    return cross_entropy(logits, targets) / count, logits


def summed_loss(
    model: GPT2, inputs: Int[Array, "B T"], targets: Int[Array, "B T"], chunk: int
) -> Float[Array, ""]:
    """Summed cross-entropy in nats, with logits of ``chunk`` positions in memory; 0 means all."""
    x, y = model.features(inputs), targets.flatten()  # (B, T, C), (B T)
    x = x.reshape(len(y), -1)  # (B T, C)
    head = model.lm_head
    weight = model.wte.embedding[...] if head is None else head.kernel[...].T
    return head_loss(x, weight, y, chunk)
