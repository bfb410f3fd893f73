"""The small net in Linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from kinds_net import pair_of, x


class Port(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, name="first")(x)
        x = nn.BatchNorm(use_running_average=True, momentum=0.9, epsilon=1e-5, name="norm")(x)
        return nn.Dense(3, name="last")(jnp.tanh(x))


pair = pair_of(lambda: (Port(), Port().init(jax.random.key(0), x)))
