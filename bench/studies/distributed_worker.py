"""What one process computes of a run that several share: a loss, its gradients, and a training.

``python -m bench.layouts FRAMEWORK RANK SIZE ADDRESS FOLDER LAYOUT...`` is such a process, started
by ``bench.distributed``; it writes ``FOLDER/LAYOUT-RANK.safetensors``. A layout is ``2x1``, data
parallel times sharded; ``2x1+1x2`` is a run that begins in one and goes on in the other.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import frameworks, programs
from bench.harness.frameworks import Framework
from shared import data, params, safetensors_io
from shared.config import IGNORED, AdamWConfig, GPTConfig, TrainConfig
from shared.params import Params
from shared.train_state import Step
from shared.world import World

# Sizes that two and four processes do not divide evenly are among these.
MODEL = GPTConfig(
    vocab_size=61, context_length=16, emb_dim=24, n_heads=4, n_layers=2, qkv_bias=True
)
BATCH_SIZE, MICRO_BATCHES, LENGTH, STEPS = 16, 2, 13, 50
Arrays = dict[str, np.ndarray]


def main(argv: list[str] | None = None) -> int:
    """Join, measure one layout after the other, write, leave."""
    parser = argparse.ArgumentParser(prog="python -m bench.layouts", description=__doc__)
    parser.add_argument("framework", choices=frameworks.NAMES)
    parser.add_argument("rank", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("layouts", nargs="+")
    asked = parser.parse_args(argv)
    side, world = frameworks.one(asked.framework), World(rank=asked.rank, size=asked.size)
    if world.size > 1:
        side.distributed.join(world, asked.address, "cpu")
    for layout in asked.layouts:
        made = measure(side, settings(layout), world.rank)
        safetensors_io.write_safetensors(asked.folder / f"{layout}-{world.rank}.safetensors", made)
    if world.size > 1:
        side.distributed.leave()
    return 0


def settings(layout: str) -> list[TrainConfig]:
    """A run in ``layout`` with everything switched on that processes could disagree on."""
    whole = TrainConfig(
        optimizer=AdamWConfig(learning_rate=3e-3, warmup_steps=3, total_steps=STEPS),
        batch_size=BATCH_SIZE,
        micro_batches=MICRO_BATCHES,
        dtype="float64",
        loss_chunk=20,
    )
    shapes = [map(int, part.split("x")) for part in layout.split("+")]
    return [replace(whole, data_parallel=groups, sharded=parts) for groups, parts in shapes]


def trainer(
    side: Framework, config: TrainConfig, model: GPTConfig = MODEL, start: Params | None = None
) -> Any:
    """A trainer as every run begins."""
    runtime = side.runtime.configure(config.dtype, "cpu")
    start = start or params.init_gpt2(model, spread=programs.SPREAD)
    made = side.params.build(lambda: side.make_gpt2(model), start, runtime.master)
    return side.train.Trainer(made, config, runtime)


def measure(
    side: Framework, configs: Sequence[TrainConfig], rank: int, steps: int = STEPS
) -> Arrays:
    """The first batch's loss and gradients; figures of ``steps`` steps, then of an evaluation.

    And, after them, parameters and moments. The steps are divided evenly between ``configs``.
    """
    trained = trainer(side, configs[0])
    loss, gradients = differentiated(side, trained, *batch(configs[0], 0, rank))
    made = {"loss": np.asarray(loss)} | {f"gradient {k}": v for k, v in gradients.items()}
    taken: list[Step] = []
    for i, config in enumerate(configs, start=1):
        if taken:
            state = trained.export()
            trained = trainer(side, config)
            trained.restore(state)
        for step in range(len(taken), steps * i // len(configs)):
            taken.append(trained.step(*batch(config, step, rank)))
    made["figures"] = np.array([(step.loss, step.grad_norm) for step in taken])
    inputs, targets = batch(configs[-1], steps, rank)
    made["validation"] = np.asarray(float(trained.evaluate(inputs[0], targets[0])))
    return made | {f"{part} {name}": value.copy() for part, name, value in trained.export_each()}


def differentiated(
    side: Framework, trained: Any, inputs: np.ndarray, targets: np.ndarray
) -> tuple[float, Arrays]:
    """What ``trained`` would step by: the loss, and copies of the gradients by canonical name."""
    loss, gradients = side.trainer_gradients(trained, inputs, targets)
    return loss, {name: value.copy() for name, value in gradients.items()}


def batch(config: TrainConfig, step: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of one step, [A, B, T] each: the rows that ``rank`` has of it.

    Rows differ in how many of their targets count; in some none does.
    """
    random = np.random.default_rng(100 + step)
    starts = random.integers(MODEL.vocab_size, size=(BATCH_SIZE, 1))
    tokens = (starts + 3 * np.arange(LENGTH + 1)) % MODEL.vocab_size
    inputs, targets = data.split_tokens(tokens)
    ignored = random.integers(LENGTH + 1, size=(BATCH_SIZE, 1))
    ignored[:2] = LENGTH
    targets = np.where(np.arange(LENGTH) < ignored, IGNORED, targets)
    count = BATCH_SIZE // MICRO_BATCHES // config.processes
    own = slice(rank * count, (rank + 1) * count)
    shape = (MICRO_BATCHES, -1, LENGTH)
    return inputs.reshape(shape)[:, own], targets.reshape(shape)[:, own]


if __name__ == "__main__":
    sys.exit(main())
