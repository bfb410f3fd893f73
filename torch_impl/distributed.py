"""One run in several processes, in PyTorch: a process a device, each with rows of every batch."""

import torch
from torch import distributed as dist

from shared.world import World


def join(world: World, address: str, device: str) -> None:
    """Meet the other processes of ``world`` at rank 0's ``address``, ``HOST:PORT``.

    Before ``configure``, and with every process: this waits for the last. A GPU is this process's
    alone, the one that its number on its host says.
    """
    if device == "cuda":
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"tcp://{address}",
        rank=world.rank,
        world_size=world.size,
    )


def leave() -> None:
    """Part from the other processes, once nothing is waited for any more."""
    dist.destroy_process_group()
