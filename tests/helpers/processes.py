"""A process of ``tests/studies/test_distributed.py``, with a planted bug or a number not finite.

``processes.py FRAMEWORK RANK SIZE ADDRESS FOLDER LAYOUT:BUG...``, with the run of one process in
``FOLDER/alone.safetensors`` to be held against.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.harness import frameworks
from bench.harness.frameworks import Framework
from bench.studies import distributed as studies_distributed
from bench.studies import distributed_worker
from shared import params, safetensors_io
from shared.train_state import counted
from shared.world import World

STEPS = 3


def _rows_dealt_out_one_by_one():
    """Rank r of n has the rows r, r + n, ...: the same sums, but other units drop."""

    def dealt(config, step, rank):
        whole = whole_batch(config, step, rank)
        return tuple(array[:, rank :: config.processes] for array in whole)

    own = distributed_worker.batch

    def whole_batch(config, step, rank):
        ranks = range(config.processes)
        parts = zip(*(own(config, step, other) for other in ranks), strict=True)
        return [np.concatenate(part, axis=1) for part in parts]

    return patch.object(distributed_worker, "batch", dealt)


def _torch(bug: str) -> AbstractContextManager:
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    from torch_impl import distributed, dropout, optim, train

    grid = distributed.ProcessGrid
    add_up = distributed._add_up

    def averaged(state, bucket):
        return add_up(state, bucket).then(lambda done: done.value() / 2)

    return {
        "none": nullcontext,
        "mean-of-means": lambda: patch.object(
            grid, "count", lambda self, targets: 2 * max(counted(targets), 1)
        ),
        "own-loss": lambda: patch.object(grid, "total", lambda self, x: x),
        "gradients-averaged": lambda: patch.object(distributed, "_add_up", averaged),
        "parts-averaged": lambda: patch.object(
            FSDPModule, "set_gradient_divide_factor", lambda self, factor: None
        ),
        "own-norm": lambda: patch.object(optim, "whole", lambda norm: norm.to_local()),
        "first-rows-dropout": lambda: patch.object(
            train, "set_keys", lambda model, keys, rank: dropout.set_keys(model, keys)
        ),
        "always-exchanged": lambda: patch.object(
            DistributedDataParallel, "no_sync", lambda self: nullcontext()
        ),
        "rows-dealt-out": _rows_dealt_out_one_by_one,
    }[bug]()


def _jax(bug: str) -> AbstractContextManager:
    import jax

    from jax_impl import distributed as jax_impl_distributed

    def backwards(devices, key):
        return sorted(devices, key=key, reverse=True)

    def exchanged(array, sharding):
        rolled = np.roll(array, array.size // 2)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: rolled[index])

    return {
        "none": nullcontext,
        "ranks-backwards": lambda: patch.object(
            jax_impl_distributed, "sorted", backwards, create=True
        ),
        "parts-exchanged": lambda: patch.object(jax_impl_distributed, "_sharded", exchanged),
        "rows-dealt-out": _rows_dealt_out_one_by_one,
    }[bug]()


PLANT = {"torch": _torch, "jax": _jax}


def planted(
    framework: Framework, layout: str, bug: str, rank: int, folder: Path
) -> distributed_worker.Arrays:
    """Whether ``bug`` shows in a short run, held against that of one process."""
    with PLANT[framework.name](bug):
        made = distributed_worker.measure(
            framework, distributed_worker.settings(layout), rank, STEPS
        )
    found = studies_distributed.judge(
        made, safetensors_io.read_safetensors(folder / "alone.safetensors")
    )
    return {"caught": np.asarray(not found["ok"])}


def not_finite(framework: Framework, layout: str, rank: int) -> distributed_worker.Arrays:
    """What moves by a step in which a token of the last rank, and of no other, is not a number."""
    (config,) = distributed_worker.settings(layout)
    untied = replace(distributed_worker.MODEL, tie_embeddings=False)
    start = params.init_gpt2(untied)
    start["wte.weight"][60] = np.nan
    trained = distributed_worker.trainer(framework, config, untied, start)
    inputs, targets = distributed_worker.batch(config, 0, rank)
    inputs = inputs % 60
    if rank == config.processes - 1:
        inputs[0, -1, 0] = 60
    before = list(trained.export_each())
    taken = trained.step(inputs, targets)
    moved = [
        not np.array_equal(old, new, equal_nan=True)
        for (_, _, old), (_, _, new) in zip(before, trained.export_each(), strict=True)
    ]
    return {"finite": np.isfinite([taken.loss, taken.grad_norm]), "moved": np.array(moved)}


def main() -> None:
    framework, number, size, address, place, *names = sys.argv[1:]
    side, rank, folder = frameworks.one(framework), int(number), Path(place)
    side.distributed.join(World(rank=rank, size=int(size)), address, "cpu")
    for name in names:
        layout, what = name.split(":")
        if what == "not-finite":
            made = not_finite(side, layout, rank)
        else:
            made = planted(side, layout, what, rank, folder)
        safetensors_io.write_safetensors(folder / f"{name}-{rank}.safetensors", made)
    side.distributed.leave()


if __name__ == "__main__":
    main()
