"""Cross-entropy, whole or with the head in chunks, in JAX.

Shape letters: N positions, C width, V vocabulary.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int

from shared.config import IGNORED


def cross_entropy(logits: Float[Array, "*N V"], targets: Int[Array, "*N"]) -> Float[Array, ""]:
    """Sum of the cross-entropies in nats over the positions whose target is not ``IGNORED``."""
    # In float32 at least: log-sum-exp over V terms is no work for 8 bits.
    wide = logits.astype(_wide(logits))
    losses = optax.softmax_cross_entropy_with_integer_labels(wide, targets)
    return jnp.where(targets == IGNORED, 0.0, losses).sum()


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def chunked_loss(
    x: Float[Array, "N C"], weight: Float[Array, "V C"], targets: Int[Array, "N"], chunk: int
) -> Float[Array, ""]:
    """Head and cross-entropy, whose gradients are taken on the way forward.

    Only ``chunk`` positions' logits exist at once, and nothing is computed twice.
    """
    return jax.lax.map(lambda part: _part(weight, *part), _parts(x, targets, chunk)).sum()


def _parts(x: Array, targets: Array, chunk: int) -> tuple[Array, Array]:
    """Positions in parts of ``chunk``: one program for all of them, so the last is filled up."""
    rest = -len(targets) % chunk
    x = jnp.pad(x, ((0, rest), (0, 0))).reshape(-1, chunk, x.shape[-1])
    y = jnp.pad(targets, (0, rest), constant_values=IGNORED).reshape(-1, chunk)
    return x, y


def _part(weight: Array, x: Array, targets: Array) -> Array:
    return cross_entropy(x @ weight.T, targets)


def _forward(x: Array, weight: Array, targets: Array, chunk: int) -> tuple[Array, tuple]:
    def add(dweight: Array, part: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        loss, (d, dx) = jax.value_and_grad(_part, argnums=(0, 1))(weight, *part)
        return dweight + d, (loss, dx)

    start = jnp.zeros_like(weight, dtype=_wide(weight))
    dweight, (losses, dx) = jax.lax.scan(add, start, _parts(x, targets, chunk))
    dx = dx.reshape(-1, x.shape[-1])[: len(x)]
    return losses.sum(), (dx, dweight.astype(weight.dtype))


def _backward(chunk: int, saved: tuple[Array, Array], d: Array) -> tuple[Array, Array, None]:
    dx, dweight = saved
    return (d * dx).astype(dx.dtype), (d * dweight).astype(dweight.dtype), None


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)


chunked_loss.defvjp(_forward, _backward)
