"""The training step and loop in PyTorch: gradients stay on parameters, state changes in place."""

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


def passes(model: nn.Module, loss_fn: LossFn) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward alone, and forward with backward, as functions of a batch that return when done."""

    def forward(*batch: Tensor) -> None:
        with torch.no_grad():
            loss_fn(model, *batch)[0].item()

    def forward_backward(*batch: Tensor) -> None:
        model.zero_grad()
        loss, _ = loss_fn(model, *batch)
        loss.backward()
        loss.item()

    return forward, forward_backward


def train(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFn,
    batches: Iterable[tuple[Tensor, ...]],
) -> Float[Tensor, "N"]:
    """One step a batch; returns the losses, each taken before its update."""
    losses = [train_step(model, optimizer, loss_fn, batch) for batch in batches]
    return torch.stack(losses)
