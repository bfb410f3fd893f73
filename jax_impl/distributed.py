"""One run in several processes, in JAX: a process a device, each with rows of every batch."""

import jax

from shared.world import World


def join(world: World, address: str, device: str) -> None:
    """Meet the other processes of ``world`` at rank 0's ``address``, ``HOST:PORT``.

    Before ``configure``, and with every process: this waits for the last. A GPU is this process's
    alone, the one that its number on its host says.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        num_processes=world.size,
        process_id=world.rank,
        local_device_ids=[world.local_rank] if device == "cuda" else None,
    )


def leave() -> None:
    """Part from the other processes, once nothing is waited for any more."""
    jax.distributed.shutdown()
