"""What a random model is: its layers, their sizes, and how each of its two versions is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["nnx", "linen", "equinox", "haiku", "function"]
Input = Literal["tokens", "vectors", "images"]
BlockKind = Literal["mlp", "gated", "attention", "recurrent", "convolution"]
Norm = Literal["layer", "rms", "none"]
Rotary = Literal["none", "halves", "pairs"]
Pool = Literal["none", "max", "mean"]
Activation = Literal[
    "relu", "gelu", "tanh gelu", "silu", "tanh", "elu", "softplus", "leaky relu", "squared relu"
]
Readout = Literal["every", "mean", "last"]
LossKind = Literal["cross-entropy", "mean square"]

KINDS: tuple[Kind, ...] = ("nnx", "linen", "equinox", "haiku", "function")
ACTIVATIONS: tuple[Activation, ...] = (
    "relu", "gelu", "tanh gelu", "silu", "tanh", "elu", "softplus", "leaky relu", "squared relu",
)  # fmt: skip
GATES = ("input", "forget", "cell", "output")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a model, from [B, T, width] to the same, or from one image to another.

    ``hidden`` is the inner width of an MLP, of a recurrent layer's state or the output channels of
    a convolution. ``gate_order`` is the order in which JAX reads the gates. ``mean_norm`` says that
    a norm takes out the mean, as a layer norm does.
    """

    kind: BlockKind
    width: int
    hidden: int
    norm: Norm = "layer"
    norm_first: bool = True
    epsilon: float = 1e-5
    bias: bool = True
    residual: bool = True
    activation: Activation = "relu"
    heads: int = 1
    kv_heads: int = 1
    causal: bool = False
    rotary: Rotary = "none"
    base: float = 10000.0
    scaled: bool = True
    tiled: bool = False
    exchanged: bool = False  # gate and up of a gated MLP
    window: int = 3
    stride: int = 1
    groups: int = 1  # of a convolution
    norm_groups: int = 1
    pool: Pool = "none"
    gate_order: tuple[int, ...] = (0, 1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one of the two versions is written.

    ``renamed`` gives blocks and layers other names. ``fused`` computes queries, keys and values,
    or gate and up, by one projection. ``flat`` keeps weights as plain parameters (in, out), not in
    layers. ``low_norm``, ``low_softmax`` and ``low_activation`` compute these in float32
    whatever they are given; ``low_tables`` keeps tables of angles in float32. ``modules`` has
    activations as modules of their own.
    """

    renamed: bool = False
    fused: bool = False
    flat: bool = False
    low_norm: bool = False
    low_softmax: bool = False
    low_activation: bool = False
    low_tables: bool = False
    modules: bool = False


@dataclass(frozen=True, kw_only=True)
class Specification:
    """A model, its batch and its loss, and how it is written in PyTorch and in JAX."""

    number: int
    kind: Kind
    input: Input
    batch: int
    length: int  # of a sequence, or of a side of an image
    width: int  # of a sequence's vectors, or channels of an image
    vocabulary: int
    outputs: int
    blocks: tuple[Block, ...]
    positions: bool = False
    tied: bool = False
    final_norm: bool = True
    readout: Readout = "every"
    loss: LossKind = "cross-entropy"
    ignored: bool = False
    summed: bool = False  # the loss, instead of its mean
    torch: Style = Style()
    jax: Style = Style()

    @property
    def last_width(self) -> int:
        """What the head is given: vectors of this width."""
        return self.blocks[-1].hidden if self.input == "images" else self.width

    def summary(self) -> str:
        """The model in a few words."""
        blocks = ", ".join(block.kind for block in self.blocks)
        return f"{self.kind}, {self.input}: {blocks}"


@dataclass(frozen=True)
class Layer:
    """A linear layer: its name in PyTorch, and its sizes."""

    name: str
    inputs: int
    outputs: int
    bias: bool


def linear_layers(block: Block) -> Iterator[Layer]:
    """The linear layers of a block, in PyTorch's order."""
    C, F, bias = block.width, block.hidden, block.bias
    if block.kind == "mlp":
        yield Layer("up", C, F, bias)
        yield Layer("down", F, C, bias)
    elif block.kind == "gated":
        yield Layer("gate", C, F, bias)
        yield Layer("up", C, F, bias)
        yield Layer("down", F, C, bias)
    elif block.kind == "attention":
        D = head_size(block)
        yield Layer("q_proj", C, block.heads * D, bias)
        yield Layer("k_proj", C, block.kv_heads * D, bias)
        yield Layer("v_proj", C, block.kv_heads * D, bias)
        yield Layer("o_proj", block.heads * D, C, bias)
    elif block.kind == "recurrent":
        yield Layer("out", F, C, bias)


def head_size(block: Block) -> int:
    """The width of one head of attention."""
    return block.hidden // block.heads


FUSED = {
    "attention": ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
    "gated": ("gate_up", ("gate", "up")),
}
RENAMED = {
    "up": "wi", "gate": "wg", "down": "wo", "q_proj": "query", "k_proj": "key", "v_proj": "value",
    "o_proj": "out_dense", "qkv_proj": "in_dense", "gate_up": "in_proj", "norm": "ln",
    "out": "readout", "conv": "kernel_conv", "blocks": "layers", "embed": "token_table",
    "final_norm": "ln_f", "head": "unembed", "positions": "position_table",
}  # fmt: skip


def jax_name(style: Style, name: str) -> str:
    """The name that a part has in JAX."""
    return RENAMED.get(name, name) if style.renamed else name


def jax_layers(block: Block, style: Style) -> Iterator[Layer]:
    """The linear layers of a block as JAX has them, by JAX's names, without plain parameters."""
    fused, members = FUSED.get(block.kind, ("", ())) if style.fused else ("", ())
    inputs = [layer for layer in linear_layers(block) if layer.name in members]
    if inputs and not style.flat:
        outputs = sum(layer.outputs for layer in inputs)
        yield Layer(jax_name(style, fused), inputs[0].inputs, outputs, block.bias)
    for layer in linear_layers(block):
        if layer.name not in members and not style.flat:
            yield Layer(jax_name(style, layer.name), layer.inputs, layer.outputs, layer.bias)


def image_sizes(spec: Specification) -> list[int]:
    """The sides of the images before each block, and behind the last."""
    sizes = [spec.length]
    for block in spec.blocks:
        side = (sizes[-1] + 2 * (block.window // 2) - block.window) // block.stride + 1
        sizes.append(side // 2 if block.pool != "none" else side)
    return sizes


def raw_shapes(block: Block, style: Style) -> dict[str, tuple[int, ...]]:
    """The plain parameters that JAX's version of a block has: names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    if block.kind == "recurrent":
        H = block.hidden
        shapes |= {"rnn_i": (block.width, 4 * H), "rnn_h": (H, 4 * H), "rnn_b": (4 * H,)}
    for layer in linear_layers(block) if style.flat else ():
        shapes[f"{layer.name}_w"] = (layer.inputs, layer.outputs)
        if layer.bias:
            shapes[f"{layer.name}_b"] = (layer.outputs,)
    return shapes
