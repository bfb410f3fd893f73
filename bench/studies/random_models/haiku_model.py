"""The Haiku version of a random model."""

from collections.abc import Callable

import haiku as hk
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


def norm_of(block: Block, name: str) -> hk.Module:
    """The norm of a block; a method that made it would be a part of its name."""
    if block.kind == "convolution":
        return hk.GroupNorm(block.norm_groups, eps=block.epsilon, name=name)
    if block.norm == "rms":
        return hk.RMSNorm(-1, eps=block.epsilon, name=name)
    return hk.LayerNorm(-1, True, True, eps=block.epsilon, name=name)


class RandomBlock(hk.Module):
    """A block whose layers are made where they are called."""

    def __init__(self, block: Block, style: Style, name: str):
        super().__init__(name=name)
        self.block, self.style = block, style

    def __call__(self, x: jax.Array) -> jax.Array:
        """A sequence or an image to the same."""
        block, style = self.block, self.style
        layers: dict[str, hk.Module] = {
            layer.name: hk.Linear(layer.outputs, with_bias=layer.bias, name=layer.name)
            for layer in jax_layers(block, style)
        }
        norm, conv = jax_name(style, "norm"), jax_name(style, "conv")
        if block.norm != "none":
            layers[norm] = norm_of(block, norm)
        if block.kind == "convolution":
            around = (block.window // 2, block.window // 2)
            layers[conv] = hk.Conv2D(
                block.hidden,
                block.window,
                stride=block.stride,
                padding=[around, around],
                feature_group_count=block.groups,
                with_bias=block.bias,
                name=conv,
            )
        raw = {
            name: hk.get_parameter(name, shape, init=jnp.zeros)
            for name, shape in raw_shapes(block, style).items()
        }
        is_image = block.kind == "convolution"
        compute = jax_blocks.image_block if is_image else jax_blocks.sequence_block
        return compute(Parts(block, style, layers, raw), x)


def computed(spec: Specification, x: jax.Array) -> jax.Array:
    """The batch to [B, outputs], or [B, T, outputs] where every place is read out."""
    names = {
        name: jax_name(spec.jax, name)
        for name in ("embed", "positions", "blocks", "final_norm", "head")
    }
    if spec.input == "tokens":
        embed = hk.Embed(spec.vocabulary, spec.width, name=names["embed"])
        x = embed(x)
    if spec.positions:
        x = x + hk.get_parameter(names["positions"], (spec.length, spec.width), init=jnp.zeros)
    for number, block in enumerate(spec.blocks):
        x = RandomBlock(block, spec.jax, f"{names['blocks']}_{number}")(x)
    if spec.final_norm:
        x = hk.LayerNorm(-1, True, True, name=names["final_norm"])(x)
    x = jax_blocks.read_out(spec, x)
    logits: jax.Array = (
        x @ embed.embeddings.T if spec.tied else hk.Linear(spec.outputs, name=names["head"])(x)
    )
    return logits


def maker(spec: Specification, batch: Array) -> Callable[[], tuple[hk.Transformed, Tree]]:
    """What makes the transformed function and its parameters for inputs such as ``batch``."""

    def made() -> tuple[hk.Transformed, Tree]:
        function = hk.without_apply_rng(hk.transform(lambda x: computed(spec, x)))
        return function, function.init(jax.random.key(spec.number), jnp.asarray(batch))

    return made
