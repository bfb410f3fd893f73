"""Decoding with a key/value cache in JAX, which goes in and out of jit in the same memory.

Shape letters: B batch, T time, C width, H heads, D head size (C = H D), V vocabulary, S cache
length.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from jax_impl.gpt2 import GPT2, CausalSelfAttention
from jax_impl.params import to_numpy
from jax_impl.runtime import Runtime
from shared.sampling import Sampling, append, choose, pad, window


class Cache(NamedTuple):
    """The keys and values of every layer; heads come before time, for the matrix products."""

    keys: list[Float[Array, "B H S D"]]
    values: list[Float[Array, "B H S D"]]


def new_cache(model: GPT2, batch_size: int, length: int) -> Cache:
    """An empty cache for ``length`` positions a row, in the model's dtype and on its device."""
    weight, H = model.wte.embedding[...], model.h[0].attn.n_heads
    shape = (batch_size, H, length, weight.shape[1] // H)

    def room() -> list[Array]:
        return [jnp.zeros(shape, dtype=weight.dtype, device=weight.device) for _ in model.h]

    return Cache(keys=room(), values=room())


def attend(
    attn: CausalSelfAttention,
    x: Float[Array, "B T C"],
    positions: Int[Array, "B T"],
    seen: Bool[Array, "B 1 T S"],
    keys: Float[Array, "B H S D"],
    values: Float[Array, "B H S D"],
) -> tuple[Float[Array, "B T C"], Float[Array, "B H S D"], Float[Array, "B H S D"]]:
    """Attention of each of ``positions`` to those that ``seen`` allows; ``x`` joins the cache."""
    B, T, C = x.shape
    q, k, v = jnp.split(attn.c_attn(x), 3, axis=-1)
    q, k, v = (z.reshape(B, T, attn.n_heads, -1) for z in (q, k, v))  # (B, T, H, D)
    rows = jnp.arange(B)[:, None]
    # Indices on both sides of a slice put their own axes first: the values are (B, T, H, D).
    keys = keys.at[rows, :, positions].set(k)
    values = values.at[rows, :, positions].set(v)
    # XLA otherwise fuses the write into the products, and copies the cache to write it twice.
    keys, values = jax.lax.optimization_barrier((keys, values))
    scores = jnp.einsum("bhqd,bhkd->bhqk", q.swapaxes(1, 2), keys) / math.sqrt(q.shape[-1])
    scores = jnp.where(seen, scores, -jnp.inf)
    # The softmax runs in float32 at least, as in the model's own attention.
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    y = jnp.einsum("bhqk,bhkd->bqhd", weights, values)
    return attn.c_proj(y.reshape(B, T, C)), keys, values


def decode_layout(model: GPT2) -> GPT2:
    """Return ``model`` unchanged: XLA chooses its own layout of weights when it compiles the step.

    A weight handed over in another layout would be copied back at every call.
    """
    return model


def decode(
    model: GPT2,
    cache: Cache,
    tokens: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    last: Int[Array, "B"],
) -> tuple[Float[Array, "B V"], Cache]:
    """Logits of the token after index ``last`` of each row, and the updated cache.

    One function for the prompt, T tokens at once, and for every later token, T = 1.
    """
    x = model.wte(tokens) + model.wpe(positions)  # (B, T, C)
    # All of the cache at every step, since each new shape would be compiled anew.
    S = cache.keys[0].shape[2]
    # Hides later positions, and so the padding of shorter prompts too.
    seen = jnp.arange(S) <= positions[:, None, :, None]  # (B, 1, T, S)
    new = Cache(keys=[], values=[])
    for block, keys, values in zip(model.h, *cache, strict=True):
        y, keys, values = attend(block.attn, block.ln_1(x), positions, seen, keys, values)
        new.keys.append(keys)
        new.values.append(values)
        x = x + y
        x = x + block.mlp(block.ln_2(x))
    rows = jnp.arange(len(x))
    x = model.ln_f(x[rows, last])  # (B, C): the head is for the last token alone
    return model.logits(x), new


def compiled(model: GPT2, runtime: Runtime) -> Callable[..., tuple[Array, Cache]]:
    """``decode`` of ``model`` as a program for T of the prompt and one for T = 1.

    A module is a pytree, so its parameters are arguments and not constants of the program. It is
    flattened once, since Python takes milliseconds for that at every token. The cache is donated:
    XLA writes the new one over it.
    """
    leaves, structure = jax.tree.flatten(model)
    return partial(_program(structure, runtime), leaves)


@lru_cache
def _program(
    structure: jax.tree_util.PyTreeDef, runtime: Runtime
) -> Callable[..., tuple[Array, Cache]]:
    """The program of every model of this structure, cached over calls."""

    def step(leaves: list[Array], cache: Cache, *batch: Array) -> tuple[Array, Cache]:
        return decode(jax.tree.unflatten(structure, leaves), cache, *batch)

    return jax.jit(step, donate_argnums=1, compiler_options=runtime.compiler_options)


def generate(
    model: GPT2,
    prompts: Sequence[Sequence[int] | np.ndarray],
    new_tokens: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Int[np.ndarray, "B"]]:
    """The next token of each prompt, int64 [B], ``new_tokens`` times.

    Each is drawn from the model's logits on the last tokens of its text, as many as the context
    has. Within the context the cache holds what is known of them. Past it every token moves one
    position down, which changes all keys and values, so that they are computed again at each step.
    A text depends on its prompt, the sampling and, if that draws, its place among the prompts.
    Raises ``ValueError``, at the call and not at the first token, for prompts that it cannot take.
    """
    if not model.drop.deterministic:
        raise ValueError("the model is in training mode, with dropout: call model.eval() first")
    texts, lengths = pad(prompts, new_tokens, vocab_size=model.wte.num_embeddings)
    return _generate(model, texts, lengths, new_tokens, sampling, runtime)


def _generate(
    model: GPT2,
    texts: Int[np.ndarray, "B N"],
    lengths: Int[np.ndarray, "B"],
    new_tokens: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Int[np.ndarray, "B"]]:
    B, N = texts.shape
    S = min(N + new_tokens, model.wpe.num_embeddings)
    cache, step = new_cache(model, B, S), compiled(model, runtime)
    batch = window(texts, lengths, S)
    for i in range(new_tokens):
        logits, cache = step(cache, *runtime.batch(*batch))
        noise = sampling.noise(i, logits.shape)  # drawn while a GPU still computes
        ids = choose(to_numpy(logits), noise, sampling)
        yield ids
        texts, lengths = append(texts, lengths, ids)
        if lengths.max() <= S:
            batch = ids[:, None], lengths[:, None] - 1, np.zeros_like(lengths)
        else:  # past the context: the whole window, from position 0
            batch = window(texts, lengths, S)
