"""One run in several processes, in PyTorch: a process a device, each with rows of every batch.

Replicated models use ``DistributedDataParallel``; sharded ones ``fully_shard``, whose parameters
are then ``DTensor``s. The latter is imported where it is needed, since that takes a second.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from shared.config import TrainConfig
from shared.train_state import check_joined, counted
from shared.world import LOOPBACK_INTERFACE, World, is_local
from torch_impl.gpt2 import GPT2
from torch_impl.runtime import Runtime

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


def join(world: World, address: str, device: str) -> None:
    """Meet the other processes of ``world`` at rank 0's ``address``, ``HOST:PORT``.

    Call it before ``configure`` on every process: it waits for the last one. Each process has a GPU
    of its own, number ``world.local_rank`` of its host. Raises ``ValueError`` where there is none.
    """
    has_gpu = device != "cpu" and torch.cuda.is_available()
    if has_gpu:
        # Where a launcher shows each process its own GPU only, that GPU is number 0.
        count = torch.cuda.device_count()
        alone = count == 1
        if not alone and world.local_rank >= count:
            raise ValueError(
                f"process {world.local_rank} of this host has no GPU, of which there are {count}: "
                "start as many processes as GPUs"
            )
        torch.cuda.set_device(0 if alone else world.local_rank)
    host, _, port = address.rpartition(":")
    # A store of our own: given the address alone, PyTorch would expect torchrun's there.
    store = _store(world, host, int(port))
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size)


def _store(world: World, host: str, port: int) -> dist.TCPStore:
    """Rank 0's store of names and values at ``host:port``, open to this machine alone if it can be.

    By itself it would listen on every network, and what the processes exchange would go by the one
    that the host's own name leads to.
    """
    if not is_local(host):
        return dist.TCPStore(host, port, world.size, is_master=world.rank == 0)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK_INTERFACE)
    if world.rank:
        return dist.TCPStore(host, port, world.size, is_master=False)
    with socket.create_server((host, port)) as listener:
        handle = listener.detach()  # the store's from now on
    return dist.TCPStore(host, port, world.size, is_master=True, master_listen_fd=handle)


def leave() -> None:
    """Leave the other processes, when no operation is pending."""
    dist.destroy_process_group()


class ProcessGrid:
    """The processes of a run, ``data_parallel`` by ``sharded``, that share a model and its batches.

    A grid of one process changes nothing. Raises ``ValueError`` unless as many processes have
    joined as ``config`` asks for.
    """

    def __init__(self, config: TrainConfig, runtime: Runtime):
        self.config, self.runtime = config, runtime
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        check_joined(config, dist.get_world_size() if dist.is_initialized() else 1)
        self.module: nn.Module | None = None

    def distribute(self, model: GPT2, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``loss`` of ``model`` as a function of a batch; ``model``'s parameters are sharded.

        Gradients are then those of the sum of all processes' losses. They are not averaged, since
        each loss has been divided by the number of all processes' targets.
        """
        if self.config.processes == 1:
            return partial(loss, model)
        module = _Loss(model, loss)
        # DDP has one dtype. Where gradients are wider than the compute dtype, FSDP is used, also if
        # each process has all of the parameters.
        mixed = self.runtime.dtype != self.runtime.master.dtype
        shard = _fully_shard if self.config.sharded > 1 or mixed else _replicate
        self.module = shard(module, self.config, self.runtime)
        return self.module

    @contextmanager
    def exchanging(self, last: bool) -> Iterator[None]:
        """Within, the pass of one micro-batch; at the ``last``, processes sum their gradients."""
        if isinstance(self.module, DistributedDataParallel):
            with nullcontext() if last else self.module.no_sync():
                yield
            return
        if self.module is not None:
            # Shards are summed at once, so that no process ever holds the whole gradient.
            cast("FSDPModule", self.module).set_requires_all_reduce(last)
        yield

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes, on each of them."""
        if self.module is not None:
            x = x.clone()
            dist.all_reduce(x)
        return x

    def count(self, targets: np.ndarray) -> int:
        """Number of all processes' targets that are not ``IGNORED``, at least 1."""
        own = counted(targets)
        if self.module is not None:
            own = int(self.total(torch.tensor(own, device=self.runtime.device)))
        return max(own, 1)


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's shard of ``tensor`` where ``like`` is sharded, else all of it."""
    if not (hasattr(like, "device_mesh") and hasattr(like, "placements")):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # src_data_rank=None: every rank has the whole tensor already, so nothing is broadcast.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """All of ``tensor``; where it is sharded, every process must call this."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


class _Loss(nn.Module):
    """A model and its loss as one module, whose forward pass gathers sharded parameters."""

    def __init__(self, model: GPT2, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(self.model, *batch)


def _replicate(module: _Loss, config: TrainConfig, runtime: Runtime) -> DistributedDataParallel:
    replica = DistributedDataParallel(module)
    replica.register_comm_hook(None, _add_up)
    return replica


def _add_up(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """A bucket of gradients, summed, where DDP by itself would average."""
    done = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return done.then(lambda future: future.value()[0])


def _fully_shard(module: _Loss, config: TrainConfig, runtime: Runtime) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    shape, names = (config.data_parallel, config.sharded), ("data", "sharded")
    mesh = init_device_mesh(runtime.device.type, shape, mesh_dim_names=names)
    policy = MixedPrecisionPolicy(param_dtype=runtime.dtype, reduce_dtype=runtime.master.dtype)
    for part in (*module.model.h, module):
        # The outermost module, too, frees its gathered parameters after its pass: code that reads
        # them between two steps finds the shards.
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    return module
