"""A random model as a plain function of its parameters."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from bench.studies.random_models import jax_blocks
from bench.studies.random_models.jax_blocks import Parts
from bench.studies.random_models.specification import (
    Block,
    Layer,
    Specification,
    jax_layers,
    jax_name,
    raw_shapes,
)
from twingrad.foreign import Tree

Params = Mapping[str, Tree]


def linear(p: Params, x: jax.Array) -> jax.Array:
    """[..., in] to [..., out]."""
    y: jax.Array = x @ p["w"]
    y = y + p["b"] if "b" in p else y
    return y


def layer_norm(p: Params, x: jax.Array, epsilon: float, centred: bool) -> jax.Array:
    """A layer norm over the last axis, or a root mean square norm."""
    x = x - x.mean(-1, keepdims=True) if centred else x
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)
    x = x * p["scale"] + p["bias"] if centred else x * p["scale"]
    return x


def group_norm(p: Params, x: jax.Array, block: Block) -> jax.Array:
    """A norm over groups of the channels of [B, H, W, C]."""
    cut = x.reshape(*x.shape[:-1], block.norm_groups, -1)
    mean = cut.mean((1, 2, 4), keepdims=True)
    variance = cut.var((1, 2, 4), keepdims=True)
    x = ((cut - mean) / jnp.sqrt(variance + block.epsilon)).reshape(x.shape)
    x = x * p["scale"] + p["bias"]
    return x


def convolution(p: Params, x: jax.Array, block: Block) -> jax.Array:
    """[B, H, W, C] to [B, H', W', hidden]."""
    around = (block.window // 2, block.window // 2)
    y = jax.lax.conv_general_dilated(
        x,
        p["w"],
        (block.stride, block.stride),
        [around, around],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=block.groups,
    )
    y = y + p["b"] if "b" in p else y
    return y


def computed(params: Params, x: jax.Array, spec: Specification) -> jax.Array:
    """The batch to [B, outputs], or [B, T, outputs] where every place is read out."""
    names = {
        name: jax_name(spec.jax, name)
        for name in ("embed", "positions", "blocks", "final_norm", "head")
    }
    p = {name: params[own] for name, own in names.items() if own in params}
    if spec.input == "tokens":
        x = p["embed"]["table"][x]
    if spec.positions:
        x = x + p["positions"]
    for block, own in zip(spec.blocks, p["blocks"], strict=True):
        x = _block(block, own, spec, x)
    if spec.final_norm:
        x = layer_norm(p["final_norm"], x, 1e-5, centred=True)
    x = jax_blocks.read_out(spec, x)
    logits: jax.Array = x @ p["embed"]["table"].T if spec.tied else linear(p["head"], x)
    return logits


def _block(block: Block, p: Params, spec: Specification, x: jax.Array) -> jax.Array:
    style = spec.jax
    layers: dict[str, jax_blocks.Function] = {
        layer.name: partial(linear, p[layer.name]) for layer in jax_layers(block, style)
    }
    norm, conv = jax_name(style, "norm"), jax_name(style, "conv")
    is_image = block.kind == "convolution"
    if block.norm != "none" and is_image:
        layers[norm] = lambda x: group_norm(p[norm], x, block)
    elif block.norm != "none":
        layers[norm] = lambda x: layer_norm(p[norm], x, block.epsilon, block.norm == "layer")
    if is_image:
        layers[conv] = lambda x: convolution(p[conv], x, block)
    raw = {name: p[name] for name in raw_shapes(block, style)}
    compute = jax_blocks.image_block if is_image else jax_blocks.sequence_block
    return compute(Parts(block, style, layers, raw), x)


def parameters(spec: Specification) -> Params:
    """The parameters, all zero."""
    p: dict[str, Tree] = {"blocks": [_of_block(block, spec) for block in spec.blocks]}
    if spec.input == "tokens":
        p["embed"] = {"table": jnp.zeros((spec.vocabulary, spec.width))}
    if spec.positions:
        p["positions"] = jnp.zeros((spec.length, spec.width))
    if spec.final_norm:
        p["final_norm"] = _norm(spec.last_width, centred=True)
    if not spec.tied:
        p["head"] = _linear(Layer("head", spec.last_width, spec.outputs, True))
    return {jax_name(spec.jax, name): value for name, value in p.items()}


def _of_block(block: Block, spec: Specification) -> Params:
    style = spec.jax
    p: dict[str, Tree] = {layer.name: _linear(layer) for layer in jax_layers(block, style)}
    p |= {name: jnp.zeros(shape) for name, shape in raw_shapes(block, style).items()}
    is_image = block.kind == "convolution"
    if block.norm != "none":
        width = block.hidden if is_image else block.width
        p[jax_name(style, "norm")] = _norm(width, is_image or block.norm == "layer")
    if is_image:
        shape = (block.window, block.window, block.width // block.groups, block.hidden)
        bias = {"b": jnp.zeros(block.hidden)} if block.bias else {}
        p[jax_name(style, "conv")] = {"w": jnp.zeros(shape), **bias}
    return p


def _linear(layer: Layer) -> Params:
    bias = {"b": jnp.zeros(layer.outputs)} if layer.bias else {}
    return {"w": jnp.zeros((layer.inputs, layer.outputs)), **bias}


def _norm(width: int, centred: bool) -> Params:
    bias = {"bias": jnp.zeros(width)} if centred else {}
    return {"scale": jnp.ones(width), **bias}


def maker(spec: Specification) -> Callable[[], tuple[partial[jax.Array], Params]]:
    """What makes the function and its parameters."""
    return lambda: (partial(computed, spec=spec), parameters(spec))
