"""Configurations that both sides read: models and optimizers, by the names people know."""

import sys
from dataclasses import dataclass, fields
from typing import TypeGuard

# GPT-2's own value. Flax defaults to 1e-6 and PyTorch to 1e-5, so both sides write it out.
LAYER_NORM_EPSILON = 1e-5
# A target to ignore: its position counts neither in the loss nor in the mean.
IGNORED = -1
# Rows of the head come in multiples of this where they are 16-bit.
ALIGNMENT = 128


# Sizes beyond which a configuration is a mistake: an index is of 32 bits, and the names of ten
# thousand layers are still quickly made.
_LARGEST_SIZE = (1 << 31) - 1
_MOST_LAYERS = 10_000
# Largest setting of an optimizer, with which float32 numbers can still be computed.
_LARGEST = 1e30
_MOST_STEPS = 1 << 48


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number, at most as large as a float can be."""
    return (is_whole(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def require_whole(name: str, value: object, least: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number from ``least`` that fits 32 bits."""
    most = (1 << 32) - 1
    _require(
        is_whole(value) and least <= value <= most,
        f"{name} is {value!r}: expected a whole number from {least} to {most}",
    )


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Sizes of a GPT-2; the defaults are the 124M model.

    Raises ``ValueError``, naming the field, the value got and what was expected.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    emb_dim: int = 768
    n_heads: int = 12
    n_layers: int = 12
    drop_rate: float = 0.1
    qkv_bias: bool = False
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            value = getattr(self, name)
            _require(
                is_whole(value) and value > 0,
                f"{name} is {value!r}: expected a positive whole number",
            )
            most = _MOST_LAYERS if name == "n_layers" else _LARGEST_SIZE
            _require(value <= most, f"{name} is {value!r}: expected at most {most}")
        for name in ("qkv_bias", "tie_embeddings"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"{name} is {value!r}: expected true or false")
        _require(
            isinstance(self.drop_rate, (int, float)) and 0 <= self.drop_rate < 1,
            f"drop_rate is {self.drop_rate!r}: expected a number from 0 up to, not including, 1",
        )
        _require(
            self.emb_dim % self.n_heads == 0,
            f"emb_dim {self.emb_dim} is not divisible by n_heads {self.n_heads}: "
            "choose a width that is a multiple of the number of heads",
        )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.emb_dim // self.n_heads


GPT_CONFIG_124M = GPTConfig()

PRESETS: dict[str, GPTConfig] = {
    # Bytes as tokens, every kind of parameter present: small enough to train on a laptop.
    "tiny": GPTConfig(
        vocab_size=256, context_length=128, emb_dim=64, n_heads=4, n_layers=2, qkv_bias=True
    ),
    # Pieces of words as tokens, on blocks that a CPU can train: for texts that are words.
    "writer": GPTConfig(
        vocab_size=2048,
        context_length=128,
        emb_dim=128,
        n_heads=4,
        n_layers=2,
        drop_rate=0.0,
        qkv_bias=True,
    ),
    # The large vocabulary on blocks that two cores can train: for measurements.
    "small": GPTConfig(emb_dim=256, n_heads=4, n_layers=4),
    "124m": GPT_CONFIG_124M,
    # The shapes of the released checkpoints.
    "gpt2": GPTConfig(qkv_bias=True),
    "gpt2-medium": GPTConfig(emb_dim=1024, n_heads=16, n_layers=24, qkv_bias=True),
    "gpt2-large": GPTConfig(emb_dim=1280, n_heads=20, n_layers=36, qkv_bias=True),
    "gpt2-xl": GPTConfig(emb_dim=1600, n_heads=25, n_layers=48, qkv_bias=True),
}


def preset(name: str) -> GPTConfig:
    """The configuration called ``name``. Raises ``ValueError``, listing the names, for another."""
    _require(name in PRESETS, f"unknown preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """Plain stochastic gradient descent: ``p -= learning_rate * gradient``."""

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        _require(
            is_number(self.learning_rate) and self.learning_rate > 0,
            f"learning_rate is {self.learning_rate!r}: expected over 0",
        )


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW (Loshchilov and Hutter, 2019) with GPT-2's usual settings, clipping and schedule.

    Weight decay applies to matrices only. The learning rate climbs linearly over ``warmup_steps``
    and falls along a cosine to ``min_learning_rate`` at step ``total_steps``. Raises ``ValueError``
    naming the field that is wrong.
    """

    learning_rate: float = 6e-4
    min_learning_rate: float = 6e-5
    warmup_steps: int = 10
    total_steps: int = 100
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, steps = getattr(self, field.name), field.name.endswith("_steps")
            _require(
                is_whole(value) if steps else is_number(value),
                f"{field.name} is {value!r}: expected a {'whole' if steps else 'finite'} number",
            )
            _require(
                steps or value <= _LARGEST,
                f"{field.name} is {value!r}: expected {_LARGEST:g} at most, for float32 holds "
                "little more",
            )
        rates = 0 <= self.min_learning_rate <= self.learning_rate
        _require(
            rates,
            f"min_learning_rate is {self.min_learning_rate!r}: expected from 0 to learning_rate "
            f"{self.learning_rate!r}",
        )
        _require(
            self.total_steps < _MOST_STEPS,
            f"total_steps is {self.total_steps!r}: expected under {_MOST_STEPS}",
        )
        _require(
            0 <= self.warmup_steps < self.total_steps,
            f"warmup_steps is {self.warmup_steps!r}: expected from 0 to under total_steps "
            f"{self.total_steps!r}",
        )
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(
                0 <= value < 1, f"{name} is {value!r}: expected from 0 up to, not including, 1"
            )
        for name in ("epsilon", "max_grad_norm"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value!r}: expected over 0")
        _require(
            self.weight_decay >= 0, f"weight_decay is {self.weight_decay!r}: expected 0 or more"
        )


OptimizerConfig = SGDConfig | AdamWConfig

TRAINING_DTYPES = ("float64", "float32", "bfloat16", "tf32")
DROPOUTS = ("matched", "native")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a GPT-2's training; ``optimizer.total_steps`` is the length of the whole run.

    ``batch_size`` counts the sequences of a step, over all its micro-batches. ``dtype`` is that of
    the computation; parameters and moments are float32 at least. ``dropout`` is ``matched``, the
    same units in both frameworks, or ``native``, each framework's own generator. The logits of
    ``loss_chunk`` positions exist at once, 0 meaning all. ``recompute`` saves memory by computing
    each block's activations again in the backward pass. ``compile`` asks PyTorch for
    ``torch.compile``; JAX is always compiled.

    ``data_parallel`` times ``sharded`` processes divide each micro-batch between them. ``sharded``
    of them hold the parameters, gradients and moments together, a shard each; ``data_parallel``
    such groups hold copies. Raises ``ValueError`` naming the field.
    """

    optimizer: AdamWConfig
    batch_size: int = 8
    micro_batches: int = 1
    seed: int = 0
    dtype: str = "float32"
    dropout: str = "matched"
    loss_chunk: int = 0
    recompute: bool = False
    compile: bool = False
    data_parallel: int = 1
    sharded: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("micro_batches", 1),
            ("data_parallel", 1),
            ("sharded", 1),
            ("seed", 0),
            ("loss_chunk", 0),
        ):
            require_whole(name, getattr(self, name), least)
        _require(
            self.batch_size % self.micro_batches == 0,
            f"batch_size {self.batch_size} is not divisible by micro_batches {self.micro_batches}: "
            "choose a multiple",
        )
        _require(
            self.batch_size % (self.micro_batches * self.processes) == 0,
            f"batch_size {self.batch_size} is not divisible by micro_batches {self.micro_batches} "
            f"times data_parallel {self.data_parallel} times sharded {self.sharded}: "
            f"choose a multiple of {self.micro_batches * self.processes}",
        )
        for name, choices in (("dtype", TRAINING_DTYPES), ("dropout", DROPOUTS)):
            value = getattr(self, name)
            _require(
                value in choices, f"unknown {name} {value!r}: choose from {', '.join(choices)}"
            )
        for name in ("recompute", "compile"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"{name} is {value!r}: expected true or false")

    @property
    def processes(self) -> int:
        """Number of processes that take each step together."""
        return self.data_parallel * self.sharded
