"""The Flax Linen version of a random model."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from bench.harness.foreign import Array
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
from twingrad.foreign import Tree


class RandomBlock(nn.Module):
    """A block whose layers are made where they are called."""

    block: Block
    style: Style

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """A sequence or an image to the same."""
        block, style = self.block, self.style
        layers: dict[str, nn.Module] = {
            layer.name: nn.Dense(layer.outputs, use_bias=layer.bias, name=layer.name)
            for layer in jax_layers(block, style)
        }
        norm, conv = jax_name(style, "norm"), jax_name(style, "conv")
        if block.norm != "none":
            layers[norm] = self._norm(norm)
        if block.kind == "convolution":
            around = (block.window // 2, block.window // 2)
            layers[conv] = nn.Conv(
                block.hidden,
                (block.window, block.window),
                strides=block.stride,
                padding=[around, around],
                feature_group_count=block.groups,
                use_bias=block.bias,
                name=conv,
            )
        raw = {
            name: self.param(name, nn.initializers.zeros, shape)
            for name, shape in raw_shapes(block, style).items()
        }
        is_image = block.kind == "convolution"
        compute = jax_blocks.image_block if is_image else jax_blocks.sequence_block
        return compute(Parts(block, style, layers, raw), x)

    def _norm(self, name: str) -> nn.Module:
        block = self.block
        if block.kind == "convolution":
            return nn.GroupNorm(block.norm_groups, epsilon=block.epsilon, name=name)
        kind = nn.RMSNorm if block.norm == "rms" else nn.LayerNorm
        return kind(epsilon=block.epsilon, name=name)


class Model(nn.Module):
    """The whole model."""

    spec: Specification

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The batch to [B, outputs], or [B, T, outputs] where every place is read out."""
        spec = self.spec
        names = {
            name: jax_name(spec.jax, name)
            for name in ("embed", "positions", "blocks", "final_norm", "head")
        }
        embed = nn.Embed(spec.vocabulary, spec.width, name=names["embed"])
        if spec.input == "tokens":
            x = embed(x)
        if spec.positions:
            shape = (spec.length, spec.width)
            x = x + self.param(names["positions"], nn.initializers.zeros, shape)
        for number, block in enumerate(spec.blocks):
            x = RandomBlock(block, spec.jax, name=f"{names['blocks']}_{number}")(x)
        if spec.final_norm:
            x = nn.LayerNorm(epsilon=1e-5, name=names["final_norm"])(x)
        x = jax_blocks.read_out(spec, x)
        logits: jax.Array = (
            embed.attend(x) if spec.tied else nn.Dense(spec.outputs, name=names["head"])(x)
        )
        return logits


def maker(spec: Specification, batch: Array) -> Callable[[], tuple[Model, Tree]]:
    """What makes the module and its variables for inputs such as ``batch``."""

    def made() -> tuple[Model, Tree]:
        model = Model(spec)
        return model, model.init(jax.random.key(spec.number), jnp.asarray(batch))

    return made
