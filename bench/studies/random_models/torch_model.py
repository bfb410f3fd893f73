"""The PyTorch version of a random model."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.studies.random_models.specification import (
    Activation,
    Block,
    Specification,
    Style,
    head_size,
    linear_layers,
)

Function = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[Activation, tuple[Function, Callable[[], nn.Module]]] = {
    "relu": (F.relu, nn.ReLU),
    "gelu": (F.gelu, nn.GELU),
    "tanh gelu": (lambda x: F.gelu(x, approximate="tanh"), lambda: nn.GELU("tanh")),
    "silu": (F.silu, nn.SiLU),
    "tanh": (torch.tanh, nn.Tanh),
    "elu": (F.elu, nn.ELU),
    "softplus": (F.softplus, nn.Softplus),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.01), lambda: nn.LeakyReLU(0.01)),
    "squared relu": (lambda x: F.relu(x) ** 2, lambda: SquaredReLU()),
}


class SquaredReLU(nn.Module):
    """The square of what is above zero."""

    def forward(self, x: Tensor) -> Tensor:
        """[...] to [...]."""
        return F.relu(x) ** 2


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, in float32 if ``low``."""

    def __init__(self, width: int, epsilon: float, low: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon, self.low = epsilon, low

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        h = x.float() if self.low else x
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return self.weight * h.to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer norm, in float32 whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def norm_of(block: Block, style: Style) -> nn.Module:
    """The norm of a block of a sequence."""
    if block.norm == "rms":
        return RMSNorm(block.width, block.epsilon, style.low_norm)
    return (LayerNorm if style.low_norm else nn.LayerNorm)(block.width, eps=block.epsilon)


def rotated(x: Tensor, block: Block, style: Style) -> Tensor:
    """A rotary embedding of [B, heads, T, D]."""
    D = x.shape[-1]
    kind = torch.float32 if style.low_tables else torch.float64
    frequencies = block.base ** (-torch.arange(0, D, 2, dtype=kind) / D)
    angles = torch.outer(torch.arange(x.shape[2], dtype=kind), frequencies)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    if block.rotary == "halves":
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class SequenceBlock(nn.Module):
    """An MLP, a gated one, attention or an LSTM, with its norm and its residual."""

    def __init__(self, block: Block, style: Style):
        super().__init__()
        self.block, self.style = block, style
        if block.norm != "none":
            self.norm = norm_of(block, style)
        for layer in linear_layers(block):
            setattr(self, layer.name, nn.Linear(layer.inputs, layer.outputs, bias=layer.bias))
        if block.kind == "recurrent":
            self.rnn = nn.LSTM(block.width, block.hidden, batch_first=True)
        if style.modules and block.kind in ("mlp", "gated"):
            self.act = ACTIVATIONS[block.activation][1]()

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to the same."""
        block = self.block
        normed = block.norm != "none"
        h = self.norm(x) if normed and block.norm_first else x
        y: Tensor = getattr(self, f"_{block.kind}")(h)
        y = x + y if block.residual else y
        return y if not normed or block.norm_first else self._layer("norm", y)

    def _layer(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, name)(x)
        return y

    def _activated(self, x: Tensor) -> Tensor:
        kind = self.block.activation
        function: Function = self.act if self.style.modules else ACTIVATIONS[kind][0]
        y: Tensor = function(x.float()).to(x.dtype) if self.style.low_activation else function(x)
        return y

    def _mlp(self, x: Tensor) -> Tensor:
        return self._layer("down", self._activated(self._layer("up", x)))

    def _gated(self, x: Tensor) -> Tensor:
        gate = self._activated(self._layer("gate", x))
        return self._layer("down", gate * self._layer("up", x))

    def _recurrent(self, x: Tensor) -> Tensor:
        return self._layer("out", self.rnn(x)[0])

    def _attention(self, x: Tensor) -> Tensor:
        block = self.block
        B, T, _ = x.shape
        D, groups = head_size(block), block.heads // block.kv_heads
        q, k, v = (
            self._layer(f"{name}_proj", x).view(B, T, -1, D).transpose(1, 2) for name in "qkv"
        )
        if block.rotary != "none":
            q, k = rotated(q, block, self.style), rotated(k, block, self.style)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = q @ k.transpose(-1, -2) / (math.sqrt(D) if block.scaled else 1.0)
        if block.causal:
            later = torch.ones(T, T, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        low = torch.float32 if self.style.low_softmax else None
        weights = scores.softmax(-1, dtype=low).to(x.dtype)
        return self._layer("o_proj", (weights @ v).transpose(1, 2).reshape(B, T, -1))


class ImageBlock(nn.Module):
    """A convolution with a norm over groups of channels, an activation and pooling."""

    def __init__(self, block: Block, style: Style):
        super().__init__()
        self.block, self.style = block, style
        self.conv = nn.Conv2d(
            block.width,
            block.hidden,
            block.window,
            stride=block.stride,
            padding=block.window // 2,
            groups=block.groups,
            bias=block.bias,
        )
        if block.norm != "none":
            self.norm = nn.GroupNorm(block.norm_groups, block.hidden, eps=block.epsilon)
        if style.modules:
            self.act = ACTIVATIONS[block.activation][1]()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, hidden, H', W']."""
        block = self.block
        y: Tensor = self.conv(x)
        y = self.norm(y) if block.norm != "none" else y
        kind = block.activation
        function: Function = self.act if self.style.modules else ACTIVATIONS[kind][0]
        y = function(y.float()).to(y.dtype) if self.style.low_activation else function(y)
        if block.pool != "none":
            y = F.max_pool2d(y, 2) if block.pool == "max" else F.avg_pool2d(y, 2)
        return x + y if block.residual else y


class Model(nn.Module):
    """The whole model."""

    def __init__(self, spec: Specification):
        super().__init__()
        self.spec = spec
        images = spec.input == "images"
        if spec.input == "tokens":
            self.embed = nn.Embedding(spec.vocabulary, spec.width)
        if spec.positions:
            self.positions = nn.Parameter(torch.zeros(spec.length, spec.width))
        make: Callable[[Block, Style], nn.Module] = ImageBlock if images else SequenceBlock
        self.blocks = nn.ModuleList([make(block, spec.torch) for block in spec.blocks])
        width = spec.blocks[-1].hidden if images else spec.width
        if spec.final_norm:
            self.final_norm = nn.LayerNorm(width)
        if not spec.tied:
            self.head = nn.Linear(width, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The batch to [B, outputs], or [B, T, outputs] where every place is read out."""
        spec = self.spec
        if spec.input == "tokens":
            x = self.embed(x)
        if spec.positions:
            x = x + self.positions
        for block in self.blocks:
            x = block(x)
        if spec.final_norm:
            x = self.final_norm(x)
        if spec.readout == "last":
            x = x[:, -1]
        elif spec.readout == "mean":
            x = x.mean((2, 3)) if spec.input == "images" else x.mean(1)
        logits: Tensor = F.linear(x, self.embed.weight) if spec.tied else self.head(x)
        return logits


def made(spec: Specification) -> Model:
    """The model with random weights; those of norms are near one."""
    generator = torch.Generator().manual_seed(spec.number)
    model = Model(spec)
    with torch.no_grad():
        for name, p in model.named_parameters():
            mean = 1.0 if "norm.weight" in name else 0.0
            spread = 0.2 if p.ndim == 1 else 1.0 / math.sqrt(p[0].numel())
            p.copy_(mean + spread * torch.randn(p.shape, generator=generator))
    return model


def loss(spec: Specification) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The loss of the model for inputs and targets."""

    def loss_of(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
        y = model(x)
        if spec.loss == "mean square":
            return F.mse_loss(y, targets)
        return F.cross_entropy(y.flatten(0, -2), targets.flatten(), ignore_index=-100)

    return loss_of
