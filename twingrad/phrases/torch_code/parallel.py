"""Several devices and reproducibility, in PyTorch."""

import contextlib

import torch
import torch.distributed as dist
from torch import nn


@contextlib.contextmanager
def _alone():
    """One process as a group of its own, as torchrun would start many."""
    dist.init_process_group(
        "gloo", store=dist.HashStore(), rank=0, world_size=1
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def mean_over_devices(x):
    with _alone():
        mean = x.mean(dim=0)
        dist.all_reduce(mean, op=dist.ReduceOp.SUM)
        return mean / dist.get_world_size()


def data_parallel(x, y, weight):
    with _alone():
        model = nn.Linear(3, 1, bias=False)
        model.load_state_dict({"weight": weight})
        parallel = nn.parallel.DistributedDataParallel(model)
        loss = (parallel(x) - y).square().mean()
        loss.backward()  # averages the gradients of all processes
        del parallel  # before the group of processes, which it holds
        return loss, model.weight.grad


def sharded_parameters(x, y, weight):
    from torch.distributed.fsdp import fully_shard

    with _alone():
        model = nn.Linear(3, 1, bias=False)
        model.load_state_dict({"weight": weight})
        mesh = dist.init_device_mesh("cpu", (1,))
        fully_shard(model, mesh=mesh)
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss, model.weight.grad.full_tensor()


def own_part_of_the_data(x):
    rank, processes = 1, 2
    sampler = torch.utils.data.DistributedSampler(
        x, processes, rank, shuffle=False
    )
    return x[list(sampler)]


def one_process_alone():
    with _alone():
        return dist.get_rank() == 0, dist.get_world_size()


def same_bits(x, index):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        runs = [
            torch.zeros(3, dtype=x.dtype).index_add(0, index, x)
            for _ in range(2)
        ]
    finally:
        torch.use_deterministic_algorithms(before)
    return runs[0], torch.equal(*runs)
