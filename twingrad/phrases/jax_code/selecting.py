"""Masks, gather and scatter, segments, top-k and sort, in JAX."""

import jax
import jax.numpy as jnp


def causal_mask(scores):
    T = scores.shape[-1]
    mask = jnp.tril(jnp.ones((T, T), dtype=bool))
    return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)


def safe_logarithm(x):
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), 0.0)


def masked_mean(x, mask):
    return x.mean(where=mask)


def masked_max(x, mask):
    return x.max(where=mask, initial=-jnp.inf)


def chosen(x, mask):
    return x.sum(
        where=mask
    )  # x[mask] has no shape that could be known under jit


def places(mask):
    (found,) = jnp.nonzero(mask, size=5, fill_value=-1)
    return found


def gather(x, index):
    return jnp.take_along_axis(x, index, axis=1)


def scatter(x, index, values):
    return jnp.put_along_axis(x, index, values, axis=1, inplace=False)


def scatter_add(x, index, values):
    return x.at[jnp.arange(len(x))[:, None], index].add(values)


def segment_sum(x, segment):
    return jax.ops.segment_sum(x, segment, num_segments=3)


def segment_max(x, segment):
    return jax.ops.segment_max(x, segment, num_segments=3)


def segment_mean(x, segment):
    sums = jax.ops.segment_sum(x, segment, num_segments=3)
    return sums / jnp.bincount(segment, length=3).clip(min=1)


def top_k(x):
    values, places = jax.lax.top_k(x, 2)
    return values, places.astype(jnp.int64)


def keep_top_k(logits):
    lowest = jax.lax.top_k(logits, 2)[0][..., -1:]
    return jax.nn.softmax(jnp.where(logits < lowest, -jnp.inf, logits), axis=-1)


def sort(x):
    return jnp.sort(x), jnp.argsort(x), jnp.sort(x, descending=True)


def unique(index):
    return jnp.unique(index, return_counts=True)


def count(index):
    return jnp.bincount(index, length=5)


def buckets(x, edges):
    return jnp.searchsorted(edges, x)


def clip(x):
    return x.clip(-0.5, 0.5)
