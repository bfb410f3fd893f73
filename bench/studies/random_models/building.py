"""A random model's two versions as a pair, with its batch and what its parameters are called."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.harness.foreign import Array, Model
from bench.studies.random_models import (
    equinox_model,
    function_model,
    haiku_model,
    linen_model,
    nnx_model,
    torch_model,
)
from bench.studies.random_models.specification import (
    FUSED,
    Block,
    Kind,
    Specification,
    jax_name,
    linear_layers,
)
from twingrad import Pair, To
from twingrad.stated import Key, Stated

IGNORED = -100
Entry = tuple[Key, Stated]


@dataclass(frozen=True)
class Leaves:
    """What a kind of model calls its parameters, and where its blocks are."""

    weight: str
    bias: str
    scale: str
    offset: str
    table: str
    block: str = "{blocks}.{number}"
    layers: str = ""
    raw: str = ""
    parts: str = ""
    inputs_first: bool = True


LEAVES: dict[Kind, Leaves] = {
    "nnx": Leaves("kernel", "bias", "scale", "bias", "embedding"),
    "linen": Leaves("kernel", "bias", "scale", "bias", "embedding", "{blocks}_{number}"),
    "haiku": Leaves("w", "b", "scale", "offset", "embeddings", "{blocks}_{number}"),
    "function": Leaves("w", "b", "scale", "bias", "table"),
    "equinox": Leaves(
        "weight", "bias", "weight", "bias", "weight", "blocks.{number}", "layers.", "raw.",
        "parts.", inputs_first=False,
    ),
}  # fmt: skip


def names(spec: Specification) -> dict[Key, Stated]:
    """Which parameter of JAX's version is which of PyTorch's."""
    leaves, style = LEAVES[spec.kind], spec.jax
    made: dict[Key, Stated] = {}

    def part(name: str) -> str:
        return leaves.parts + jax_name(style, name)

    if spec.input == "tokens":
        made["embed.weight"] = f"{part('embed')}.{leaves.table}"
    if spec.positions:
        made["positions"] = part("positions")
    if spec.final_norm:
        made["final_norm.weight"] = f"{part('final_norm')}.{leaves.scale}"
        made["final_norm.bias"] = f"{part('final_norm')}.{leaves.offset}"
    if not spec.tied:
        made["head.weight"] = f"{part('head')}.{leaves.weight}"
        made["head.bias"] = f"{part('head')}.{leaves.bias}"
    for number, block in enumerate(spec.blocks):
        blocks = jax_name(style, "blocks")
        own = leaves.block.format(blocks=blocks, number=number)
        made.update(_of_block(block, spec, f"blocks.{number}", own))
    return made


def _of_block(block: Block, spec: Specification, torch: str, own: str) -> Iterator[Entry]:
    leaves, style = LEAVES[spec.kind], spec.jax
    layers, raw = f"{own}.{leaves.layers}", f"{own}.{leaves.raw}"
    if block.norm != "none":
        norm = layers + jax_name(style, "norm")
        yield f"{torch}.norm.weight", f"{norm}.{leaves.scale}"
        if block.norm == "layer":
            yield f"{torch}.norm.bias", f"{norm}.{leaves.offset}"
    if block.kind == "convolution":
        conv = layers + jax_name(style, "conv")
        yield f"{torch}.conv.weight", f"{conv}.{leaves.weight}"
        if block.bias:
            yield f"{torch}.conv.bias", f"{conv}.{leaves.bias}"
    if block.kind == "recurrent":
        yield f"{torch}.rnn.weight_ih_l0", To(f"{raw}rnn_i").axes(1, 0)
        yield f"{torch}.rnn.weight_hh_l0", To(f"{raw}rnn_h").axes(1, 0)
        biases = (f"{torch}.rnn.bias_ih_l0", f"{torch}.rnn.bias_hh_l0")
        yield biases, To(f"{raw}rnn_b").sum()
    fused, members = FUSED.get(block.kind, ("", ())) if style.fused else ("", ())
    for suffix, leaf in (("weight", leaves.weight), ("bias", leaves.bias)):
        if members and (suffix == "weight" or block.bias):
            target = f"{layers}{jax_name(style, fused)}.{leaf}"
            axis = -1 if leaves.inputs_first else 0
            yield (
                tuple(f"{torch}.{name}.{suffix}" for name in members),
                To(target).concatenate(axis=axis),
            )
    for layer in linear_layers(block):
        if layer.name in members:
            continue
        kinds = [("weight", leaves.weight, "w")]
        kinds += [("bias", leaves.bias, "b")] if layer.bias else []
        for suffix, leaf, letter in kinds:
            if style.flat:
                to = To(f"{raw}{layer.name}_{letter}")
                yield f"{torch}.{layer.name}.{suffix}", to.axes(1, 0) if letter == "w" else to
            else:
                yield (
                    f"{torch}.{layer.name}.{suffix}",
                    f"{layers}{jax_name(style, layer.name)}.{leaf}",
                )


def batch(spec: Specification) -> tuple[Array, Array]:
    """Inputs and targets, with images' channels first."""
    random = np.random.default_rng((spec.number, 2))
    B, T = spec.batch, spec.length
    x: Array = random.normal(size=(B, T, spec.width))
    if spec.input == "tokens":
        x = random.integers(0, spec.vocabulary, (B, T))
    elif spec.input == "images":
        x = random.normal(size=(B, spec.width, T, T))
    if spec.loss == "mean square":
        return x, random.normal(size=(B, spec.outputs))
    targets = random.integers(0, spec.outputs, (B, T) if spec.readout == "every" else B)
    if spec.ignored:
        targets = np.where(random.random(targets.shape) < 0.3, IGNORED, targets)
        targets[0, 0] = 1
    return x, targets


def loss(spec: Specification) -> Callable[[Model, jax.Array, jax.Array], jax.Array]:
    """JAX's loss of the model for inputs and targets."""

    def loss_of(model: Model, x: jax.Array, targets: jax.Array) -> jax.Array:
        y: jax.Array = jax.vmap(model)(x) if spec.kind == "equinox" else model(x)
        if spec.loss == "mean square":
            squares = (y - targets) ** 2
            return squares.sum() if spec.summed else squares.mean()
        counted = targets != IGNORED
        losses = optax.softmax_cross_entropy_with_integer_labels(y, jnp.where(counted, targets, 0))
        total = jnp.where(counted, losses, 0.0).sum()
        return total if spec.summed else total / counted.sum()

    return loss_of


def pair(spec: Specification, changed: Specification | None = None) -> Pair:
    """The pair; with ``changed``, JAX's version follows that specification."""
    ours = changed or spec
    x, targets = batch(spec)
    last = spec.input == "images" and spec.kind != "equinox"
    theirs = x.transpose(0, 2, 3, 1) if last else x
    makers: dict[Kind, Callable[[], Callable[[], object]]] = {
        "nnx": lambda: nnx_model.maker(ours),
        "linen": lambda: linen_model.maker(ours, theirs),
        "equinox": lambda: equinox_model.maker(ours),
        "haiku": lambda: haiku_model.maker(ours, theirs),
        "function": lambda: function_model.maker(ours),
    }
    return Pair(
        torch=lambda: torch_model.made(spec),
        jax=makers[spec.kind](),
        torch_loss=torch_model.loss(spec),
        jax_loss=loss(ours),
        batch=(x, targets),
        jax_batch=(theirs, targets),
        names=names(spec),
        name=f"random pair {spec.number}",
    )
