"""The training step and loop in PyTorch: gradients left on the parameters, state changed in place."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_impl.optim import Optimizer

LossFn = Callable[..., tuple[Tensor, Tensor]]


def train_step(
    model: nn.Module, optimizer: Optimizer, loss_fn: LossFn, batch: tuple[Tensor, ...]
) -> Float[Tensor, ""]:
    """Forward, loss, backward, update; returns the loss before the update."""
    optimizer.zero_grad()
    loss, _ = loss_fn(model, *batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def train(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFn,
    batches: Iterable[tuple[Tensor, ...]],
) -> Float[Tensor, "N"]:
    """One step a batch; returns the losses, each taken before its update."""
    losses = [train_step(model, optimizer, loss_fn, batch) for batch in batches]
    return torch.stack(losses)
