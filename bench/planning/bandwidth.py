"""Bandwidth between processes, by an all-reduce that each of them takes part in.

``python -m bench.planning.bandwidth FRAMEWORK RANK SIZE HOST:PORT`` starts one.

All of them sum one array, over and over, and rank 0 prints the bytes/s that each has sent: of n
processes in a ring 2 (n - 1)/n times the array (Patarasuk and Yuan, 2009), as plans count it.
"""

import json
import sys
from collections.abc import Callable
from statistics import median

import numpy as np

from bench.harness import frameworks
from bench.harness.foreign import Array
from bench.speed import ceilings
from shared.world import World
from twingrad import lifeline

SUMMED = 1 << 26  # bytes


def main(argv: list[str] | None = None) -> int:
    """Meet the others, sum, and print the bandwidth as JSON."""
    name, rank, size, address = sys.argv[1:] if argv is None else argv
    if argv is None:
        lifeline.end_with_parent()
    world = World(rank=int(rank), size=int(size))
    framework = frameworks.one(name)
    framework.distributed.join(world, address, "cpu")
    total = {"torch": _torch, "jax": _jax}[name](np.ones(SUMMED // 4, np.float32))
    seconds = ceilings.times(total)
    if world.rank == 0:
        sent = 2 * (world.size - 1) / world.size * SUMMED
        print(json.dumps({"bytes_per_s": sent / median(seconds)}), flush=True)
    framework.distributed.leave()
    return 0


def _torch(array: Array) -> Callable[[], object]:
    import torch
    from torch import distributed as dist

    tensor = torch.from_numpy(array)
    return lambda: dist.all_reduce(tensor)


def _jax(array: Array) -> Callable[[], object]:
    import jax
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    devices = sorted(jax.devices("cpu"), key=lambda device: device.process_index)
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    parts, whole = (
        NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]
        for axes in (("data",), ())
    )
    x = jax.make_array_from_process_local_data(parts, array[None])  # type: ignore[no-untyped-call]
    total = jax.jit(lambda x: x.sum(0), out_shardings=whole)
    return lambda: total(x).block_until_ready()


if __name__ == "__main__":
    sys.exit(main())
