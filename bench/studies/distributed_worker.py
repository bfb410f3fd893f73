"""One process of a run that several share: it computes a loss, its gradients, and a training.

The study ``distributed`` starts it as ``python -m bench.studies.distributed_worker FRAMEWORK RANK
SIZE ADDRESS FOLDER LAYOUT...``, and it writes ``FOLDER/LAYOUT-RANK.safetensors``. A layout is
``2x1``, data parallel times sharded; ``2x1+1x2`` is a run that begins in one and goes on in the
other.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.harness import frameworks, programs
from bench.harness.foreign import Array, Native
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
Arrays = dict[str, Array]


def main(argv: list[str] | None = None) -> int:
    """Join, measure one layout after the other, write, leave."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.studies.distributed_worker", description=__doc__
    )
    parser.add_argument("framework", choices=frameworks.NAMES)
    parser.add_argument("rank", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("layouts", nargs="+")
    arguments = parser.parse_args(argv)
    framework = frameworks.one(arguments.framework)
    world = World(rank=arguments.rank, size=arguments.size)
    if world.size > 1:
        framework.distributed.join(world, arguments.address, "cpu")
    for layout in arguments.layouts:
        results = measure(framework, settings(layout), world.rank)
        path = arguments.folder / f"{layout}-{world.rank}.safetensors"
        safetensors_io.write_safetensors(path, results)
    if world.size > 1:
        framework.distributed.leave()
    return 0


def settings(layout: str) -> list[TrainConfig]:
    """Settings of a run in ``layout``, with everything on that processes could disagree on."""
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
    framework: Framework, config: TrainConfig, model: GPTConfig = MODEL, start: Params | None = None
) -> Native:
    """A trainer at the start of a run."""
    runtime = framework.runtime.configure(config.dtype, "cpu")
    start = start or params.init_gpt2(model, spread=programs.SPREAD)
    built = framework.params.build(lambda: framework.make_gpt2(model), start, runtime.master)
    return framework.train.Trainer(built, config, runtime)


def measure(
    framework: Framework, configs: Sequence[TrainConfig], rank: int, steps: int = STEPS
) -> Arrays:
    """Loss and gradients of the first batch, metrics of ``steps`` steps and of an evaluation.

    Parameters and moments after them, too. The steps are divided evenly between ``configs``.
    """
    running = trainer(framework, configs[0])
    loss, gradients = differentiated(framework, running, *batch(configs[0], 0, rank))
    results = {"loss": np.asarray(loss)} | {f"gradient {k}": v for k, v in gradients.items()}
    taken: list[Step] = []
    for i, config in enumerate(configs, start=1):
        if taken:
            state = running.export()
            running = trainer(framework, config)
            running.restore(state)
        for step in range(len(taken), steps * i // len(configs)):
            taken.append(running.step(*batch(config, step, rank)))
    results["figures"] = np.array([(step.loss, step.grad_norm) for step in taken])
    inputs, targets = batch(configs[-1], steps, rank)
    results["validation"] = np.asarray(float(running.evaluate(inputs[0], targets[0])))
    return results | {f"{part} {name}": value.copy() for part, name, value in running.export_each()}


def differentiated(
    framework: Framework, trained: Native, inputs: Array, targets: Array
) -> tuple[float, Arrays]:
    """The loss of a batch, and copies of the gradients by canonical name."""
    loss, gradients = framework.trainer_gradients(trained, inputs, targets)
    return loss, {name: value.copy() for name, value in gradients.items()}


def batch(config: TrainConfig, step: int, rank: int) -> tuple[Array, Array]:
    """Inputs and targets of one step, [A, B, T] each: the rows of ``rank``.

    Rows differ in how many of their targets are IGNORED; in some all are.
    """
    random = np.random.default_rng(100 + step)
    starts = random.integers(MODEL.vocab_size, size=(BATCH_SIZE, 1))
    tokens = (starts + 3 * np.arange(LENGTH + 1)) % MODEL.vocab_size
    inputs, targets = data.split_tokens(tokens)
    ignored = random.integers(LENGTH + 1, size=(BATCH_SIZE, 1))
    ignored[:2] = LENGTH
    targets = np.where(np.arange(LENGTH) < ignored, IGNORED, targets)
    count = BATCH_SIZE // MICRO_BATCHES // config.processes
    rows = slice(rank * count, (rank + 1) * count)
    shape = (MICRO_BATCHES, -1, LENGTH)
    return inputs.reshape(shape)[:, rows], targets.reshape(shape)[:, rows]


if __name__ == "__main__":
    sys.exit(main())
