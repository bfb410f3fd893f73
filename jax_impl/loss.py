"""Cross-entropy from logits, or from the head in chunks of positions, in JAX.

Shape letters: N positions, C width, V vocabulary, P vocabulary with padding.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from shared.config import ALIGNMENT, IGNORED


def cross_entropy(logits: Float[Array, "*N V"], targets: Int[Array, "*N"]) -> Float[Array, ""]:
    """Sum of the cross-entropies in nats over the positions whose target is not ``IGNORED``."""
    # In float32 at least: the 8 bits of bfloat16 are too few for a log-sum-exp over V terms.
    wide = logits.astype(_wide(logits))
    # By comparison: the gradient of a look-up would be a scatter into all logits, slow on a GPU.
    is_target = targets[..., None] == jnp.arange(wide.shape[-1])
    losses = jax.nn.logsumexp(wide, axis=-1) - jnp.where(is_target, wide, 0.0).sum(-1)
    return jnp.where(targets == IGNORED, 0.0, losses).sum()


def head_loss(
    x: Float[Array, "N C"], weight: Float[Array, "V C"], targets: Int[Array, "N"], chunk: int
) -> Float[Array, ""]:
    """Summed cross-entropy in nats of the head's logits, ``chunk`` positions at a time; 0: all.

    ``weight`` is rounded to the dtype of ``x``.
    """
    weight = weight.astype(x.dtype)
    if chunk:
        return chunked_loss(x, weight, targets, chunk)
    logits = x @ _aligned(weight).T
    return cross_entropy(_unpadded(logits, len(weight)), targets)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def chunked_loss(
    x: Float[Array, "N C"], weight: Float[Array, "V C"], targets: Int[Array, "N"], chunk: int
) -> Float[Array, ""]:
    """Summed cross-entropy in nats of the head's logits; gradients are computed going forward.

    Logits of ``chunk`` positions exist at once, and nothing is computed twice.
    """
    return jax.lax.map(lambda part: _part(weight, *part), _parts(x, targets, chunk)).sum()


def _parts(x: Array, targets: Array, chunk: int) -> tuple[Array, Array]:
    """Positions in parts of ``chunk``: one program serves all, so the last part is padded."""
    rest = -len(targets) % chunk
    x = jnp.pad(x, ((0, rest), (0, 0))).reshape(-1, chunk, x.shape[-1])
    y = jnp.pad(targets, (0, rest), constant_values=IGNORED).reshape(-1, chunk)
    return x, y


def _part(weight: Array, x: Array, targets: Array) -> Array:
    return head_loss(x, weight, targets, 0)


def _forward(
    x: Array, weight: Array, targets: Array, chunk: int
) -> tuple[Array, tuple[Array, Array]]:
    def add(dweight: Array, piece: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        part, y = piece
        loss, share, e = _softmax(part, padded, y, len(weight))
        dpart = e @ padded * share
        scaled = (part * share).astype(e.dtype)
        return dweight + e.T @ scaled, (loss, dpart)

    padded = _aligned(weight)
    start = jnp.zeros_like(padded, dtype=_wide(weight))
    dweight, (losses, dx) = jax.lax.scan(add, start, _parts(x, targets, chunk))
    dx = dx.reshape(-1, x.shape[-1])[: len(x)]
    # The logits' gradient is the softmax, minus one at the target. The one is subtracted here:
    # in a product it would outweigh the other V terms of the sum, and round them away.
    counts, index = (targets != IGNORED)[:, None], jnp.maximum(targets, 0)
    dx -= weight[index] * counts
    dweight = dweight.at[index].add(-(x * counts).astype(dweight.dtype))
    dweight = dweight[: len(weight)]
    return losses.sum(), (dx.astype(x.dtype), dweight.astype(weight.dtype))


def _backward(chunk: int, saved: tuple[Array, Array], d: Array) -> tuple[Array, Array, None]:
    dx, dweight = saved
    return (d * dx).astype(dx.dtype), (d * dweight).astype(dweight.dtype), None


def _softmax(
    x: Float[Array, "N C"], weight: Float[Array, "P C"], targets: Int[Array, "N"], vocab: int
) -> tuple[Float[Array, ""], Float[Array, "N 1"], Float[Array, "N P"]]:
    """Summed loss, and the softmax as two factors: one for each position, and exponentials.

    Only the first ``vocab`` of P rows are tokens; the exponentials of the others are 0.
    """
    logits = (x @ weight.T).astype(_wide(x))  # (N, P)
    if len(weight) > vocab:
        logits = jnp.where(jnp.arange(len(weight)) < vocab, logits, -jnp.inf)
    counts, index = targets != IGNORED, jnp.maximum(targets, 0)
    top, chosen = logits.max(1), jnp.take_along_axis(logits, index[:, None], 1)[:, 0]
    e = jnp.exp(logits - top[:, None])
    total = e.sum(1)
    loss = jnp.where(counts, jnp.log(total) + top - chosen, 0.0).sum()
    return loss, (counts / total)[:, None], e.astype(x.dtype)


def _aligned(weight: Float[Array, "V C"]) -> Float[Array, "P C"]:
    """A 16-bit ``weight`` with rows of zeros up to a multiple of ``ALIGNMENT``; others as they are.

    A GPU multiplies 16-bit matrices faster if their sizes are such multiples.
    """
    rest = -len(weight) % ALIGNMENT
    return jnp.pad(weight, ((0, rest), (0, 0))) if rest and weight.itemsize == 2 else weight


def _unpadded(logits: Float[Array, "N P"], vocab: int) -> Float[Array, "N V"]:
    """The logits without those of the padding, which are in no loss and have no gradient."""
    return logits[:, :vocab] if logits.shape[1] > vocab else logits


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


chunked_loss.defvjp(_forward, _backward)
