"""The Equinox version of a random model: one example at a time, mapped over the batch."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from bench.harness.foreign import Native
from bench.studies.random_models import jax_blocks
from bench.studies.random_models.jax_blocks import Parts
from bench.studies.random_models.specification import (
    Block,
    Specification,
    Style,
    jax_layers,
    jax_name,
    raw_shapes,
)


def over_rows(layer: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """A layer of vectors, for all vectors of an array."""

    def call(x: jax.Array) -> jax.Array:
        return layer(x) if x.ndim == 1 else jax.vmap(call)(x)

    return call


class RandomBlock(eqx.Module):
    """A block with its layers by name."""

    layers: dict[str, eqx.Module]
    raw: dict[str, jax.Array]
    block: Block = eqx.field(static=True)
    style: Style = eqx.field(static=True)

    def __init__(self, block: Block, style: Style, key: jax.Array):
        self.block, self.style = block, style
        self.layers = {
            layer.name: eqx.nn.Linear(layer.inputs, layer.outputs, use_bias=layer.bias, key=key)
            for layer in jax_layers(block, style)
        }
        if block.norm != "none":
            self.layers[jax_name(style, "norm")] = self._norm()
        if block.kind == "convolution":
            self.layers[jax_name(style, "conv")] = eqx.nn.Conv2d(
                block.width,
                block.hidden,
                block.window,
                stride=block.stride,
                padding=block.window // 2,
                groups=block.groups,
                use_bias=block.bias,
                key=key,
            )
        self.raw = {name: jnp.zeros(shape) for name, shape in raw_shapes(block, style).items()}

    def _norm(self) -> eqx.Module:
        block = self.block
        if block.kind == "convolution":
            return eqx.nn.GroupNorm(block.norm_groups, block.hidden, eps=block.epsilon)
        if block.norm == "rms":
            return eqx.nn.RMSNorm(block.width, eps=block.epsilon, use_bias=False)
        return eqx.nn.LayerNorm(block.width, eps=block.epsilon)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[T, C] or [C, H, W] to the same."""
        if self.block.kind == "convolution":
            parts = Parts(self.block, self.style, self.layers, self.raw, channels_first=True)
            return jax_blocks.image_block(parts, x)
        layers = {name: over_rows(layer) for name, layer in self.layers.items()}
        return jax_blocks.sequence_block(Parts(self.block, self.style, layers, self.raw), x)


class Model(eqx.Module):
    """The whole model; ``parts`` has all but the blocks, by name."""

    parts: dict[str, Native]
    blocks: list[RandomBlock]
    spec: Specification = eqx.field(static=True)

    def __init__(self, spec: Specification, key: jax.Array):
        self.spec = spec
        parts: dict[str, Native] = {}
        if spec.input == "tokens":
            parts["embed"] = eqx.nn.Embedding(spec.vocabulary, spec.width, key=key)
        if spec.positions:
            parts["positions"] = jnp.zeros((spec.length, spec.width))
        if spec.final_norm:
            parts["final_norm"] = eqx.nn.LayerNorm(spec.last_width)
        if not spec.tied:
            parts["head"] = eqx.nn.Linear(spec.last_width, spec.outputs, key=key)
        self.parts = {jax_name(spec.jax, name): part for name, part in parts.items()}
        self.blocks = [RandomBlock(block, spec.jax, key) for block in spec.blocks]

    def __call__(self, x: jax.Array) -> jax.Array:
        """One example to [outputs], or [T, outputs] where every place is read out."""
        spec = self.spec
        names = {
            name: jax_name(spec.jax, name) for name in ("embed", "positions", "final_norm", "head")
        }
        parts = {name: self.parts[own] for name, own in names.items() if own in self.parts}
        if spec.input == "tokens":
            x = jax.vmap(parts["embed"])(x)
        if spec.positions:
            x = x + parts["positions"]
        for block in self.blocks:
            x = block(x)
        if spec.final_norm:
            x = over_rows(parts["final_norm"])(x)
        x = jax_blocks.read_out(spec, x, channels_first=True)
        logits: jax.Array = (
            x @ parts["embed"].weight.T if spec.tied else over_rows(parts["head"])(x)
        )
        return logits


def maker(spec: Specification) -> Callable[[], Model]:
    """What makes the model."""
    return lambda: Model(spec, jax.random.key(spec.number))
