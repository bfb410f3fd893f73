"""The training step and loop in JAX: gradients are a value, state goes in and comes out of jit."""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from jax_impl.optim import Optimizer

LossFn = Callable[..., tuple[Array, Array]]


def train_step(
    model: nnx.Module, optimizer: Optimizer, loss_fn: LossFn, batch: tuple[Array, ...]
) -> Float[Array, ""]:
    """Forward, loss, backward, update; returns the loss before the update."""
    gradient = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, _), gradients = gradient(model, *batch)
    optimizer.update(model, gradients)
    return loss


def passes(model: nnx.Module, loss_fn: LossFn) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward alone, and forward with backward, as functions of a batch that return when done."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_of(params: nnx.State, *batch: Array) -> Array:
        return loss_fn(nnx.merge(graphdef, params, rest), *batch)[0]

    loss = jax.jit(loss_of)
    gradient = jax.jit(jax.value_and_grad(loss_of))

    def forward(*batch: Array) -> None:
        jax.block_until_ready(loss(params, *batch))

    def forward_backward(*batch: Array) -> None:
        jax.block_until_ready(gradient(params, *batch))

    return forward, forward_backward


def train(
    model: nnx.Module,
    optimizer: Optimizer,
    loss_fn: LossFn,
    batches: Iterable[tuple[Array, ...]],
) -> Float[Array, "N"]:
    """One step a batch; returns the losses, each taken before its update."""
    # jit over split state costs less Python a step than nnx.jit over modules, and donation lets
    # XLA write the new state over the old.
    graphdef, state = nnx.split((model, optimizer))

    @partial(jax.jit, donate_argnums=0)
    def step(state: nnx.State, batch: tuple[Array, ...]) -> tuple[nnx.State, Array]:
        model, optimizer = nnx.merge(graphdef, state)
        loss = train_step(model, optimizer, loss_fn, batch)
        return nnx.state((model, optimizer)), loss

    losses = []
    for batch in batches:
        state, loss = step(state, batch)
        losses.append(loss)
    nnx.update((model, optimizer), state)
    return jnp.stack(losses)
