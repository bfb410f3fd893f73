"""The programs that are compared: their models, parameters and batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bench.harness.foreign import Array, Batch, ByHand, LossFn, Model, Native
from bench.harness.frameworks import Framework
from shared import by_hand, data, params
from shared.config import (
    IGNORED,
    AdamWConfig,
    GPTConfig,
    OptimizerConfig,
    SGDConfig,
    TrainConfig,
    preset,
)
from shared.params import Params

NAMES = ("tensors", "sigmoid-bce", "simple-net", "gpt2")
# Gains and biases are spread about one and zero, so that none can be dropped unnoticed.
SPREAD = 0.02
LARGE = 10_000_000  # parameters


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program, its parameters and its data: everything both frameworks start from.

    ``make(framework)`` describes the model and ``build`` also fills it. Every tensor of
    ``batches[0]`` is compared; all batches make the trajectory, which a ``Trainer`` runs by
    ``training`` where there is one.
    ``by_hand`` is a third reference that uses no autograd. ``optimizer_part`` stands in for a large
    model where its optimizer is judged.
    """

    name: str
    preset: str | None
    make: Callable[[Framework], Model]
    loss_fn: Callable[[Framework], LossFn]
    params: Params
    batches: list[Batch]
    output_name: str
    optimizers: dict[str, OptimizerConfig]
    optimizer_steps: int
    trajectory_optimizer: str
    training: TrainConfig | None = None
    by_hand: ByHand | None = None
    config: GPTConfig | None = None
    optimizer_part: "Program | None" = None

    @property
    def is_large(self) -> bool:
        """Whether memory and time call for fewer optimizer and training steps."""
        return sum(value.size for value in self.params.values()) > LARGE

    def build(self, framework: Framework, runtime: Native, start: Params | None = None) -> Model:
        """The framework's model in the runtime's dtype, with ``params`` or those of ``start``."""
        values = self.params if start is None else start
        return framework.params.build(lambda: self.make(framework), values, runtime)

    @property
    def title(self) -> str:
        """Name and preset, as people say it."""
        return f"{self.name} {self.preset}" if self.preset else self.name


def sigmoid_bce(steps: int = 20) -> Program:
    """One neuron at x = 1.1, y = 1, w = 2.2, b = 0."""
    point = {"w": np.asarray(2.2), "b": np.asarray(0.0)}
    batch = (np.asarray(1.1), np.asarray(1.0))
    return Program(
        name="sigmoid-bce",
        preset=None,
        make=lambda framework: framework.sigmoid_bce.Neuron(),
        loss_fn=lambda framework: framework.sigmoid_bce.loss_fn,
        params=point,
        batches=[batch] * steps,
        output_name="a",
        optimizers={"sgd": SGDConfig(learning_rate=0.1)},
        optimizer_steps=4,
        trajectory_optimizer="sgd",
        by_hand=by_hand.neuron,
    )


def simple_net(steps: int = 100, batch_size: int = 8, seed: int = 0) -> Program:
    """``SimpleNet`` 10-5-1 with SGD at 0.01, as its chapter trains it."""
    return Program(
        name="simple-net",
        preset=None,
        make=lambda framework: framework.make_simple_net(),
        loss_fn=lambda framework: framework.simple_net.loss_fn,
        params=params.init_uniform(params.SIMPLE_NET_SHAPES, seed),
        batches=[data.labelled_batch(batch_size, seed + 1 + step) for step in range(steps)],
        output_name="probability",
        optimizers={"sgd": SGDConfig(learning_rate=0.01), "adamw": adamw(steps)},
        optimizer_steps=4,
        trajectory_optimizer="sgd",
        by_hand=by_hand.simple_net,
    )


def gpt2(
    preset_name: str = "tiny",
    *,
    steps: int | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    config: GPTConfig | None = None,
    start: Params | None = None,
    tokens: Array | None = None,
    attention: str = "fused_attention",
    optimizer_layers: int | None = None,
) -> Program:
    """GPT-2 at a preset's size, or at ``config``'s, on seeded or given parameters and tokens.

    ``size`` is how many sequences a batch has, and of how many tokens, where none are given.
    ``optimizer_layers`` has the optimizer judged on the embeddings, the final norm and that many
    first layers, which it treats no differently from the others.
    """
    config = config or preset(preset_name)
    large = params.count(params.gpt2_shapes(config)) > LARGE
    # Four sequences keep the tiny model's gradient norm on both sides of the clipping bound.
    size = size or (1 if large else 4, min(32, config.context_length))
    if steps is None:
        steps = 1 if large else 50
    first = data.token_batch(config, *size, seed) if tokens is None else tokens
    rest = [data.token_batch(config, *_sizes(first), seed + step) for step in range(1, steps)]
    batches: list[Batch] = [data.split_tokens(batch) for batch in (first, *rest)]
    if tokens is None:
        batches = [_with_ignored(inputs, targets) for inputs, targets in batches]
    values = params.init_gpt2(config, seed, SPREAD) if start is None else start
    part = None
    if optimizer_layers is not None:
        fewer = replace(config, n_layers=optimizer_layers)
        first_layers = {name: values[name] for name in params.gpt2_shapes(fewer)}
        part = gpt2(preset_name, steps=steps, config=fewer, start=first_layers, attention=attention)
    return Program(
        name="gpt2",
        preset=preset_name,
        make=lambda framework: framework.make_gpt2(config, attention=attention),
        loss_fn=lambda framework: framework.gpt2.loss_fn,
        params=values,
        batches=batches,
        output_name="logits",
        optimizers={"adamw": adamw(steps)},
        optimizer_steps=2 if large else 6,
        trajectory_optimizer="adamw",
        training=_training(config, len(first), adamw(steps), seed),
        config=config,
        optimizer_part=part,
    )


class Maker(Protocol):
    """A function that makes a program."""

    def __call__(self, *, steps: int = ...) -> Program:
        """The program with a trajectory of ``steps`` steps."""


MAKERS: dict[str, Maker] = {"sigmoid-bce": sigmoid_bce, "simple-net": simple_net, "gpt2": gpt2}


def make(name: str, steps: int | None = None) -> Program:
    """The program called ``name``, one of ``NAMES`` but the tensor tour."""
    maker = MAKERS[name]
    return maker() if steps is None else maker(steps=steps)


def adamw(steps: int) -> AdamWConfig:
    """AdamW with a warm-up that a run of a few steps gets through."""
    return replace(AdamWConfig(), warmup_steps=2, total_steps=max(steps, 10))


def _training(config: GPTConfig, batch_size: int, optimizer: AdamWConfig, seed: int) -> TrainConfig:
    """A run in which everything is switched on that the frameworks could disagree on."""
    return TrainConfig(
        optimizer=optimizer,
        batch_size=batch_size,
        micro_batches=next(count for count in (2, 3, 1) if batch_size % count == 0),
        seed=seed,
        dropout="matched",
        loss_chunk=20,
    )


def _with_ignored(inputs: Array, targets: Array) -> Batch:
    """The batch with some targets left out of the loss, as a prompt's are: most of one sequence's.

    Sequences, and with them micro-batches, then differ in how many targets count.
    """
    targets = targets.copy()
    targets[0, : 2 * targets.shape[1] // 3] = IGNORED
    return inputs, targets


def _sizes(tokens: Array) -> tuple[int, int]:
    return tokens.shape[0], tokens.shape[1] - 1
