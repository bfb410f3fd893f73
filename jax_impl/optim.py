"""SGD and AdamW in JAX by optax, with decay masks, global-norm clipping and the shared schedule."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from shared.config import AdamWConfig, OptimizerConfig, SGDConfig
from shared.schedule import learning_rate


class Optimizer(nnx.Optimizer):
    """An optax transformation and its state, with clipping and the learning rate schedule.

    ``update(model, gradients)`` takes the gradients as a value; nothing accumulates.
    """

    def __init__(self, model: nnx.Module, config: OptimizerConfig):
        inner = _adamw(config) if isinstance(config, AdamWConfig) else _sgd(config)
        # One program makes all averages; by itself optax has one compiled for every shape.
        init = jax.jit(inner.init)
        super().__init__(model, optax.GradientTransformation(init, inner.update), wrt=nnx.Param)
        # Every counter is put on the parameters' device by name, as the step returns it: else jit
        # compiles the step twice, the first time for counters that are on no device in particular.
        state = nnx.state(self)
        device = jax.tree.leaves(nnx.state(model, nnx.Param))[0].sharding
        nnx.update(self, jax.device_put(state, device))

    def moments(self) -> tuple[nnx.State, nnx.State]:
        """AdamW's averages of gradients and of their squares, named as the parameters are."""
        return optax.tree.get(self.opt_state, "mu"), optax.tree.get(self.opt_state, "nu")

    def restore(self, first: nnx.State, second: nnx.State, steps: int) -> None:
        """Continue from these moments after ``steps`` steps."""
        for average, value in zip(self.moments(), (first, second), strict=True):
            nnx.update(average, value)
        # Three counters: of the optimizer, of Adam for its bias correction, and of the schedule.
        counts = [count for _, count in optax.tree.get_all_with_path(self.opt_state, "count")]
        for count in (self.step, *counts):
            count.set_value(jnp.full_like(count[...], steps))


def _sgd(config: SGDConfig) -> optax.GradientTransformation:
    return optax.sgd(config.learning_rate)


def _adamw(config: AdamWConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        # Every number written out: optax's weight decay is 1e-4 on everything, PyTorch's 1e-2.
        optax.adamw(
            partial(learning_rate, config=config, xp=jnp),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            eps_root=0.0,
            weight_decay=config.weight_decay,
            mask=_decays,
        ),
    )


def _decays(params: nnx.State) -> nnx.State:
    """Matrices decay; gains and biases do not."""
    return jax.tree.map(lambda p: p.ndim >= 2, params)
