"""The Flax NNX version of a random model."""

from collections.abc import Callable

import flax.nnx as nnx
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


def norm_of(block: Block, rngs: nnx.Rngs) -> nnx.Module:
    """The norm of a block."""
    if block.kind == "convolution":
        groups = block.norm_groups
        return nnx.GroupNorm(block.hidden, num_groups=groups, epsilon=block.epsilon, rngs=rngs)
    kind = nnx.RMSNorm if block.norm == "rms" else nnx.LayerNorm
    return kind(block.width, epsilon=block.epsilon, rngs=rngs)


class RandomBlock(nnx.Module):
    """A block whose layers are attributes."""

    def __init__(self, block: Block, style: Style, rngs: nnx.Rngs):
        self.block, self.style = block, style
        names = [layer.name for layer in jax_layers(block, style)]
        for layer in jax_layers(block, style):
            made = nnx.Linear(layer.inputs, layer.outputs, use_bias=layer.bias, rngs=rngs)
            setattr(self, layer.name, made)
        if block.norm != "none":
            names.append(jax_name(style, "norm"))
            setattr(self, names[-1], norm_of(block, rngs))
        if block.kind == "convolution":
            names.append(jax_name(style, "conv"))
            around = (block.window // 2, block.window // 2)
            conv = nnx.Conv(
                block.width,
                block.hidden,
                (block.window, block.window),
                strides=block.stride,
                padding=[around, around],
                feature_group_count=block.groups,
                use_bias=block.bias,
                rngs=rngs,
            )
            setattr(self, names[-1], conv)
        self.names, self.raw = tuple(names), tuple(raw_shapes(block, style))
        for name, shape in raw_shapes(block, style).items():
            setattr(self, name, nnx.Param(jnp.zeros(shape)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """A sequence or an image to the same."""
        layers = {name: getattr(self, name) for name in self.names}
        raw = {name: getattr(self, name)[...] for name in self.raw}
        is_image = self.block.kind == "convolution"
        compute = jax_blocks.image_block if is_image else jax_blocks.sequence_block
        return compute(Parts(self.block, self.style, layers, raw), x)


class Model(nnx.Module):
    """The whole model."""

    def __init__(self, spec: Specification, rngs: nnx.Rngs):
        self.spec = spec
        C, width = spec.width, spec.last_width
        if spec.input == "tokens":
            self._set("embed", nnx.Embed(spec.vocabulary, C, rngs=rngs))
        if spec.positions:
            self._set("positions", nnx.Param(jnp.zeros((spec.length, C))))
        blocks = [RandomBlock(block, spec.jax, rngs) for block in spec.blocks]
        self._set("blocks", nnx.List(blocks))
        if spec.final_norm:
            self._set("final_norm", nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs))
        if not spec.tied:
            self._set("head", nnx.Linear(width, spec.outputs, rngs=rngs))

    def _set(self, name: str, value: object) -> None:
        setattr(self, jax_name(self.spec.jax, name), value)

    def _part(self, name: str) -> Native:
        return getattr(self, jax_name(self.spec.jax, name))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The batch to [B, outputs], or [B, T, outputs] where every place is read out."""
        spec = self.spec
        if spec.input == "tokens":
            x = self._part("embed")(x)
        if spec.positions:
            x = x + self._part("positions")[...]
        for block in self._part("blocks"):
            x = block(x)
        if spec.final_norm:
            x = self._part("final_norm")(x)
        x = jax_blocks.read_out(spec, x)
        logits: jax.Array = self._part("embed").attend(x) if spec.tied else self._part("head")(x)
        return logits


def maker(spec: Specification) -> Callable[[], Model]:
    """What makes the model."""
    return lambda: Model(spec, nnx.Rngs(spec.number))
