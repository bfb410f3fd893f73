"""The small net in Equinox, with its state."""

import equinox as eqx
import jax
import jax.numpy as jnp
from kinds_net import pair_of


class Port(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    last: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.first = eqx.nn.Linear(6, 4, key=a)
        self.norm = eqx.nn.BatchNorm(4, "batch", momentum=0.9, mode="batch")
        self.last = eqx.nn.Linear(4, 3, key=b)

    def __call__(self, x, state):
        x, state = self.norm(self.first(x), state)
        return self.last(jnp.tanh(x)), state


def jax_loss(model, state, x):
    batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    output, state = batched(x, state)
    return (output**2).mean(), state


pair = pair_of(lambda: eqx.nn.make_with_state(Port)(jax.random.key(0)), jax_loss)
