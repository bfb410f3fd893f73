"""One run in several processes, in JAX: a process a device, each with rows of every batch.

All run one program on global arrays: a sharding says which part of an array each process holds, and
the compiler inserts the communication.
"""

import os
from typing import TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jax_impl.runtime import Runtime
from shared.config import TrainConfig
from shared.train_state import check_joined
from shared.world import World, is_local

Tree = TypeVar("Tree")


def join(world: World, address: str, device: str) -> None:
    """Meet the other processes of ``world`` at rank 0's ``address``, ``HOST:PORT``.

    Call it before ``configure`` on every process: it waits for the last one. Each process has a GPU
    of its own, number ``world.local_rank`` of its host.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would handle SIGTERM itself; the run does that for all its processes.
    jax.config.update("jax_enable_preemption_service", False)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    # Where a launcher shows each process its own GPU only, that GPU is number 0.
    alone = visible != [""] and len(visible) == 1
    jax.distributed.initialize(
        address,
        num_processes=world.size,
        process_id=world.rank,
        local_device_ids=[0 if alone else world.local_rank] if device != "cpu" else None,
        cluster_detection_method="deactivate",
        # By itself it would listen on every network.
        coordinator_bind_address=address if is_local(address.rpartition(":")[0]) else None,
    )


def leave() -> None:
    """Leave the other processes, when no operation is pending."""
    jax.distributed.shutdown()


class ProcessGrid:
    """The processes of a run, ``data_parallel`` by ``sharded``, that share a model and its batches.

    A grid of one process changes nothing. Raises ``ValueError`` unless as many processes have
    joined as ``config`` asks for.
    """

    def __init__(self, config: TrainConfig, runtime: Runtime):
        self.config, self.runtime = config, runtime
        check_joined(config, jax.process_count())
        devices = jax.devices(runtime.device.platform) if config.processes > 1 else [runtime.device]
        # By rank, so that the rows of a batch are in that order too. ``jax.make_mesh`` would sort
        # GPUs by the network between them, and does not span hosts that are several slices to it.
        ranked = sorted(devices, key=lambda device: device.process_index)
        self.mesh = Mesh(
            np.array(ranked).reshape(config.data_parallel, config.sharded),
            ("data", "sharded"),
            # The compiler shards the rest. JAX's own default has changed.
            axis_types=(AxisType.Auto, AxisType.Auto),
        )

    def distribute(self, state: nnx.State) -> nnx.State:
        """A copy of ``state``: floating-point arrays sharded, all else whole on every process."""
        if self.config.processes == 1:
            return jax.device_put(jax.tree.map(jnp.copy, state), self.runtime.device)
        return jax.tree.map(lambda x: _sharded(x, self._sharding(x)), state)

    def batch(self, *arrays: np.ndarray) -> tuple[Array, ...]:
        """The batch of which this process has the rows ``arrays``, [..., B, T] each."""
        if self.config.processes == 1:
            return self.runtime.batch(*arrays)
        rows = PartitionSpec(*[None] * (arrays[0].ndim - 2), ("data", "sharded"), None)
        sharding = NamedSharding(self.mesh, rows)
        local = (array.astype(np.int32) for array in arrays)
        return tuple(jax.make_array_from_process_local_data(sharding, array) for array in local)

    def shard(self, tree: Tree) -> Tree:
        """Within a program: ``tree``, of which each process holds its shards."""
        if self.config.processes == 1:
            return tree
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self._sharding(x)), tree)

    def gather(self, tree: Tree) -> Tree:
        """Within a program: ``tree`` whole on every process; its gradient is sharded again."""
        if self.config.processes == 1:
            return tree
        return jax.lax.with_sharding_constraint(
            self.shard(tree), NamedSharding(self.mesh, PartitionSpec())
        )

    def _sharding(self, x: Array) -> NamedSharding:
        """Over "sharded" along the first axis that divides evenly; whole if there is none."""
        count = self.config.sharded
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        even = [i for i, size in enumerate(x.shape) if floats and size % count == 0]
        spec = PartitionSpec(*[None] * even[0], "sharded") if even else PartitionSpec()
        return NamedSharding(self.mesh, spec)


def shard_like(array: Array, like: Array | jax.ShapeDtypeStruct) -> Array:
    """This process's shard of ``array`` where ``like`` is sharded, else all of it."""
    return _sharded(array, like.sharding) if _is_sharded(like) else array


def whole(array: Array) -> Array:
    """All of ``array``; where it is sharded, every process must call this."""
    if not _is_sharded(array):
        return array
    assert isinstance(array.sharding, NamedSharding)
    everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
    return jax.jit(_same, out_shardings=everywhere)(array).addressable_data(0)


def _is_sharded(array: Array | jax.ShapeDtypeStruct) -> TypeGuard[Array]:
    return isinstance(array, Array) and not array.is_fully_addressable


def _sharded(array: Array, sharding: Sharding) -> Array:
    # A copy of the part alone: ``array[index]`` may be ``array`` itself.
    return jax.make_array_from_callback(array.shape, sharding, lambda i: jnp.copy(array[i]))


def _same(array: Array) -> Array:
    return array
