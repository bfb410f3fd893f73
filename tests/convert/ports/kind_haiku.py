"""The small net in Haiku, with its state."""

import haiku as hk
import jax
import jax.numpy as jnp
from kinds_net import pair_of, x


def forward(x):
    x = hk.Linear(4, name="first")(x)
    norm = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9, name="norm")
    # A Haiku norm has running averages once it has been trained for a step.
    return hk.Linear(3, name="last")(jnp.tanh(norm(x, is_training=hk.running_init())))


def make_jax():
    port = hk.without_apply_rng(hk.transform_with_state(forward))
    return port, *port.init(jax.random.key(0), x)


pair = pair_of(make_jax)
