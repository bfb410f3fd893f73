"""Models that are not the project's own, with ports of them: right ones, and ones with a bug.

``PORTS[name](bug)`` makes a pair; ``BUGS[name]`` lists bugs with where each must be found, and
words that its cause must hold.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from torch import nn

from twingrad.pair import Pair


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# A transformers model against a Flax port of it.

HF = {"vocab_size": 53, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}


def _hf() -> nn.Module:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(**HF, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    model = transformers.GPT2LMHeadModel(config)
    for p in model.parameters():  # biases and gains of their own
        torch.nn.init.normal_(p, std=0.2)
    return model


class HFBlock(nnx.Module):
    """A block of GPT-2, with room for a bug."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        C = HF["n_embd"]
        epsilon = 1e-6 if bug == "epsilon" else 1e-5
        self.bug = bug
        self.ln_1 = nnx.LayerNorm(C, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
        self.ln_2 = nnx.LayerNorm(C, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.attn = HFAttention(bug, rngs)
        self.mlp = HFMLP(bug, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class HFAttention(nnx.Module):
    """Causal self-attention."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        C = HF["n_embd"]
        self.bug = bug
        self.c_attn = nnx.Linear(C, 3 * C, rngs=rngs)
        self.c_proj = nnx.Linear(C, C, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        B, T, C = x.shape
        H = HF["n_head"]
        q, k, v = (z.reshape(B, T, H, C // H) for z in jnp.split(self.c_attn(x), 3, axis=-1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        scores = scores / (1.0 if self.bug == "scale" else (C // H) ** 0.5)
        scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1)
        return self.c_proj(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, C))


class HFMLP(nnx.Module):
    """Out and back."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        C = HF["n_embd"]
        self.bug = bug
        self.c_fc = nnx.Linear(C, 4 * C, rngs=rngs)
        self.c_proj = nnx.Linear(4 * C, C, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.c_proj(jax.nn.gelu(self.c_fc(x), approximate=self.bug != "gelu"))


class HFPort(nnx.Module):
    """GPT-2 with a tied head."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        C = HF["n_embd"]
        self.wte = nnx.Embed(HF["vocab_size"], C, rngs=rngs)
        self.wpe = nnx.Embed(HF["n_positions"], C, rngs=rngs)
        self.h = nnx.List(HFBlock(bug, rngs) for _ in range(HF["n_layer"]))
        self.ln_f = nnx.LayerNorm(C, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.wte(ids) + self.wpe(jnp.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


def hf(bug: str | None = None) -> Pair:
    """transformers' GPT-2 and a Flax NNX port."""
    ids = np.random.default_rng(1).integers(HF["vocab_size"], size=(2, 9))

    def torch_loss(model: Any, x: Any, y: Any) -> Any:
        logits = model(input_ids=x).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), logits

    def jax_loss(model: Any, x: Any, y: Any) -> Any:
        logits = model(x)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], axis=-1)
        return -picked.mean(), logits

    return Pair(
        torch=_hf,
        jax=lambda: HFPort(bug, nnx.Rngs(0)),
        torch_loss=torch_loss,
        jax_loss=jax_loss,
        batch=(ids[:, :-1], ids[:, 1:]),
        name="transformers GPT-2",
    )


# A convolutional net with BatchNorm, in training mode.


class Net(nn.Module):
    """Two convolutions and a linear layer, on images with channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.conv2(x)).mean(dim=(2, 3)))


def _net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    nn.init.normal_(net.bn1.weight, 1.0, 0.2)
    nn.init.normal_(net.bn1.bias, 0.0, 0.2)
    return net


class NetPort(nnx.Module):
    """The same with channels last."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        pad = "VALID" if bug == "padding" else ((1, 1), (1, 1))
        self.conv1 = nnx.Conv(3, 6, (3, 3), padding=pad, rngs=rngs)
        self.bn1 = nnx.BatchNorm(
            6,
            momentum=0.1 if bug == "momentum" else 0.9,
            epsilon=1e-3 if bug == "epsilon" else 1e-5,
            use_fast_variance=False,
            rngs=rngs,
        )
        self.conv2 = nnx.Conv(6, 4, (3, 3), strides=2, padding=((1, 1), (1, 1)), rngs=rngs)
        self.fc = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        return self.fc(nnx.relu(self.conv2(x)).mean(axis=(1, 2)))


class Unbiased(nnx.Module):
    """BatchNorm as PyTorch keeps its running variance: over n - 1."""

    def __init__(self, inner: nnx.BatchNorm):
        self.scale, self.bias, self.mean, self.var = inner.scale, inner.bias, inner.mean, inner.var
        self.momentum, self.epsilon = inner.momentum, inner.epsilon
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        axes, n = (0, 1, 2), x.size // x.shape[-1]
        mean, var = x.mean(axes), x.var(axes)
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * mean
        self.var[...] = keep * self.var[...] + (1 - keep) * var * n / (n - 1)
        return (x - mean) / jnp.sqrt(var + self.epsilon) * self.scale[...] + self.bias[...]


def conv(bug: str | None = None) -> Pair:
    """A convolutional net whose running statistics count too."""
    images, labels = _random(4, 3, 8, 8), np.arange(4) % 5

    def port() -> NetPort:
        net = NetPort(bug, nnx.Rngs(0))
        net.bn1 = Unbiased(net.bn1)
        return net

    return Pair(
        torch=_net,
        jax=port,
        torch_loss=lambda model, x, y: nn.functional.cross_entropy(model(x), y),
        jax_loss=_classified,
        batch=(images, labels),
        jax_batch=(np.moveaxis(images, 1, -1), labels),
        train=True,
        name="convolutional net",
    )


def _classified(model: Any, x: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(model(x)), y[:, None], axis=-1).mean()


# A recurrent cell, written as a function of its parameters.


class Recurrent(nn.Module):
    """A GRU cell over a sequence, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One number a sequence."""
        h = torch.zeros(len(x), 5, dtype=x.dtype)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


def _recurrent() -> nn.Module:
    torch.manual_seed(0)
    return Recurrent()


class Cell(nnx.Module):
    """PyTorch's GRU: the reset gate multiplies the state after its own product and bias."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        self.bug = bug
        self.ih = nnx.Linear(3, 15, rngs=rngs)
        self.hh = nnx.Linear(5, 15, rngs=rngs)

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        ir, iz, i_n = jnp.split(self.ih(x), 3, axis=-1)
        hr, hz, hn = jnp.split(self.hh(h), 3, axis=-1)
        r, z = jax.nn.sigmoid(ir + hr), jax.nn.sigmoid(iz + hz)
        n = jnp.tanh(i_n + (hn if self.bug == "reset" else r * hn))
        if self.bug == "update":
            return z * n + (1 - z) * h
        return (1 - z) * n + z * h


class RecurrentPort(nnx.Module):
    """The cell over a sequence."""

    def __init__(self, bug: str | None, rngs: nnx.Rngs):
        self.bug = bug
        self.cell = Cell(bug, rngs)
        self.head = nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = jnp.zeros((len(x), 5), x.dtype)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(jnp.tanh(h) if self.bug == "head" else h)


def recurrent(bug: str | None = None) -> Pair:
    """A GRU cell, called once a time step."""
    return Pair(
        torch=_recurrent,
        jax=lambda: RecurrentPort(bug, nnx.Rngs(0)),
        torch_loss=lambda model, x, y: ((model(x) - y) ** 2).mean(),
        jax_loss=lambda model, x, y: ((model(x) - y) ** 2).mean(),
        batch=(_random(4, 6, 3), _random(4, 1, seed=1)),
        names={
            "cell.weight_ih": "cell.ih.kernel",
            "cell.weight_hh": "cell.hh.kernel",
            "cell.bias_ih": "cell.ih.bias",
            "cell.bias_hh": "cell.hh.bias",
        },
        name="GRU",
    )


# A Linen model.


class Tower(nn.Module):
    """An embedding, a norm and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.fc1 = nn.Linear(6, 10)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.norm(self.embed(ids).mean(1))
        return self.fc2(torch.nn.functional.silu(self.fc1(x)))


class TowerPort(linen.Module):
    """The same in Linen."""

    bug: str | None = None

    @linen.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        x = linen.Embed(11, 6, name="embed")(ids)
        x = x.sum(1) if self.bug == "sum" else x.mean(1)
        epsilon = 1e-6 if self.bug == "epsilon" else 1e-5
        x = linen.LayerNorm(epsilon=epsilon, use_fast_variance=False, name="norm")(x)
        x = linen.Dense(10, name="fc1")(x)
        x = linen.relu(x) if self.bug == "activation" else linen.silu(x)
        return linen.Dense(3, name="fc2")(x)


def _tower() -> nn.Module:
    torch.manual_seed(0)
    return Tower()


def tower(bug: str | None = None) -> Pair:
    """A Linen model, given with its variables."""
    ids, labels = np.random.default_rng(2).integers(11, size=(5, 4)), np.arange(5) % 3

    def port() -> tuple[Any, Any]:
        module = TowerPort(bug=bug)
        return module, module.init(jax.random.key(0), jnp.asarray(ids))

    return Pair(
        torch=_tower,
        jax=port,
        torch_loss=lambda model, x, y: nn.functional.cross_entropy(model(x), y),
        jax_loss=_classified,
        batch=(ids, labels),
        name="Linen tower",
    )


PORTS: dict[str, Callable[..., Pair]] = {
    "hf": hf,
    "conv": conv,
    "recurrent": recurrent,
    "tower": tower,
}
# bug -> where it must be found, and a word of its cause
BUGS: dict[str, dict[str, tuple[str, str]]] = {
    "hf": {
        "epsilon": ("h.0.ln_1", "epsilon 1e-06"),
        "scale": ("h.0.attn", "not divided by sqrt(D)"),
        "gelu": ("h.0.mlp", "GELU by erf"),
    },
    "conv": {
        "padding": ("conv1", "shape"),
        "momentum": ("bn1.running_mean", "momentum"),
        "epsilon": ("bn1", "epsilon 0.001"),
    },
    "recurrent": {
        "reset": ("cell", "without its reset gate"),
        "update": ("cell", "update gate turned round"),
        "head": ("model", "tanh"),
    },
    "tower": {
        "epsilon": ("norm", "epsilon 1e-06"),
        "activation": ("model", "ReLU"),
        "sum": ("model", "JAX's the sum over positions"),
    },
}
EVERY = [(name, bug) for name, bugs in BUGS.items() for bug in bugs]
