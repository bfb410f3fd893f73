"""What blocks compute in JAX, whatever keeps their parameters, and whether batched or not.

A sequence is [..., T, C], an image [..., H, W, C], or [..., C, H, W] with channels first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from bench.studies.random_models.specification import (
    FUSED,
    Activation,
    Block,
    Specification,
    Style,
    head_size,
    jax_name,
)

Function = Callable[[jax.Array], jax.Array]
ACTIVATIONS: dict[Activation, Function] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "tanh gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "leaky relu": lambda x: jax.nn.leaky_relu(x, 0.01),
    "squared relu": lambda x: jax.nn.relu(x) ** 2,
}


@dataclass(frozen=True)
class Parts:
    """The layers of a block by JAX's names, and its plain parameters by name."""

    block: Block
    style: Style
    layers: Mapping[str, Function]
    raw: Mapping[str, jax.Array] = field(default_factory=dict)
    channels_first: bool = False

    def layer(self, name: str) -> Function:
        """The layer with PyTorch's ``name``, or one that multiplies by plain parameters."""
        if not self.style.flat or name in ("norm", "conv"):
            return self.layers[jax_name(self.style, name)]
        weight, bias = self.raw[f"{name}_w"], self.raw.get(f"{name}_b")
        return lambda x: jnp.einsum("...i,io->...o", x, weight) + (0 if bias is None else bias)

    def inputs(self, x: jax.Array) -> list[jax.Array]:
        """Queries, keys and values, or gate and up, by one projection or several."""
        fused, members = FUSED[self.block.kind]
        if not self.style.fused:
            return [self.layer(name)(x) for name in members]
        block, D = self.block, head_size(self.block)
        sizes = [block.hidden]
        if block.kind == "attention":
            sizes = [block.heads * D, (block.heads + block.kv_heads) * D]
        return jnp.split(self.layers[jax_name(self.style, fused)](x), sizes, axis=-1)


def sequence_block(parts: Parts, x: jax.Array) -> jax.Array:
    """An MLP, a gated one, attention or an LSTM, with its norm and its residual."""
    block = parts.block
    compute = {"mlp": mlp, "gated": gated, "attention": attention, "recurrent": recurrent}
    normed = block.norm != "none"
    h = norm(parts, x) if normed and block.norm_first else x
    y = compute[block.kind](parts, h)
    y = x + y if block.residual else y
    return norm(parts, y) if normed and not block.norm_first else y


def norm(parts: Parts, x: jax.Array) -> jax.Array:
    """The block's norm, in float32 if that is its style."""
    layer = parts.layer("norm")
    return layer(x.astype(jnp.float32)).astype(x.dtype) if parts.style.low_norm else layer(x)


def activated(parts: Parts, x: jax.Array) -> jax.Array:
    """The block's activation, in float32 if that is its style."""
    function = ACTIVATIONS[parts.block.activation]
    if parts.style.low_activation:
        return function(x.astype(jnp.float32)).astype(x.dtype)
    return function(x)


def mlp(parts: Parts, x: jax.Array) -> jax.Array:
    """Two linear layers with an activation between them."""
    return parts.layer("down")(activated(parts, parts.layer("up")(x)))


def gated(parts: Parts, x: jax.Array) -> jax.Array:
    """Three linear layers, of which one is gated by the activation of another."""
    gate, up = parts.inputs(x)
    if parts.block.exchanged:
        gate, up = up, gate
    return parts.layer("down")(activated(parts, gate) * up)


def attention(parts: Parts, x: jax.Array) -> jax.Array:
    """Attention over heads, whose key and value heads may be fewer."""
    block = parts.block
    D, groups = head_size(block), block.heads // block.kv_heads
    q, k, v = (y.reshape(*y.shape[:-1], -1, D) for y in parts.inputs(x))
    if block.rotary != "none":
        q, k = rotated(q, block, parts.style), rotated(k, block, parts.style)
    if groups > 1:
        times = [1] * (k.ndim - 2) + [groups, 1]
        k, v = (
            jnp.tile(y, times) if block.tiled else jnp.repeat(y, groups, axis=-2) for y in (k, v)
        )
    scores = jnp.einsum("...thd,...shd->...hts", q, k)
    scores = scores / np.sqrt(D) if block.scaled else scores
    if block.causal:
        lowest = jnp.finfo(x.dtype).min  # type: ignore[no-untyped-call]
        scores = jnp.where(jnp.tri(x.shape[-2], dtype=bool), scores, lowest)
    if parts.style.low_softmax:
        weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(x.dtype)
    else:
        weights = jax.nn.softmax(scores, axis=-1)
    y = jnp.einsum("...hts,...shd->...thd", weights, v)
    return parts.layer("o_proj")(y.reshape(*y.shape[:-2], -1))


def rotated(x: jax.Array, block: Block, style: Style) -> jax.Array:
    """A rotary embedding of [..., T, heads, D]."""
    D = x.shape[-1]
    frequencies = block.base ** (-np.arange(0, D, 2) / D)
    angles = np.outer(np.arange(x.shape[-3]), frequencies)[:, None, :]
    kind = np.float32 if style.low_tables else np.float64
    cos, sin = (jnp.asarray(f(angles).astype(kind), x.dtype) for f in (np.cos, np.sin))
    if block.rotary == "halves":
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)


def recurrent(parts: Parts, x: jax.Array) -> jax.Array:
    """An LSTM in a scan, and a linear layer of its states."""
    weights = [parts.raw[name] for name in ("rnn_i", "rnn_h", "rnn_b")]
    order = parts.block.gate_order

    def step(
        carry: tuple[jax.Array, jax.Array], now: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = carry
        gates = jnp.split(now @ weights[0] + h @ weights[1] + weights[2], 4, axis=-1)
        i, f, g, o = (gates[n] for n in order)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((*x.shape[:-2], parts.block.hidden), x.dtype)
    _, states = jax.lax.scan(step, (zeros, zeros), jnp.moveaxis(x, -2, 0))
    return parts.layer("out")(jnp.moveaxis(states, 0, -2))


def image_block(parts: Parts, x: jax.Array) -> jax.Array:
    """A convolution with a norm over groups of channels, an activation and pooling."""
    block = parts.block
    y = parts.layer("conv")(x)
    y = norm(parts, y) if block.norm != "none" else y
    y = activated(parts, y)
    if block.pool != "none":
        y = pooled(parts, y)
    return x + y if block.residual else y


def pooled(parts: Parts, x: jax.Array) -> jax.Array:
    """The maximum or the mean of each two by two; what is left over is left out."""
    first = -2 if parts.channels_first else -3
    rows, columns = x.shape[first], x.shape[first + 1]
    axes = (x.ndim + first, x.ndim + first + 1)
    for axis, size in zip(axes, (rows, columns), strict=True):
        x = jax.lax.slice_in_dim(x, 0, size // 2 * 2, axis=axis)
    shape = (*x.shape[: axes[0]], rows // 2, 2, columns // 2, 2, *x.shape[axes[1] + 1 :])
    reduce = jnp.max if parts.block.pool == "max" else jnp.mean
    return reduce(x.reshape(shape), axis=(axes[0] + 1, axes[0] + 3))


def read_out(spec: Specification, x: jax.Array, channels_first: bool = False) -> jax.Array:
    """The places of a sequence or an image that the head is given."""
    if spec.readout == "last":
        return x[..., -1, :]
    if spec.readout == "mean" and spec.input != "images":
        return x.mean(-2)
    if spec.readout == "mean":
        return x.mean((-2, -1) if channels_first else (-3, -2))
    return x
