"""The small net as a plain function of parameters and state."""

import jax
import jax.numpy as jnp
from kinds_net import pair_of


def forward(params, state, x):
    norm = params["norm"]
    x = x @ params["layers"][0]["kernel"] + params["layers"][0]["bias"]
    x = (x - state["norm"]["mean"]) * jax.lax.rsqrt(state["norm"]["var"] + 1e-5)
    x = jnp.tanh(x * norm["scale"] + norm["bias"])
    return x @ params["layers"][1]["kernel"] + params["layers"][1]["bias"], state


def make_jax():
    sizes = ((6, 4), (4, 3))
    layers = [{"kernel": jnp.zeros(size), "bias": jnp.zeros(size[1])} for size in sizes]
    norm = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    return (
        forward,
        {"layers": layers, "norm": norm},
        {"norm": {"mean": jnp.zeros(4), "var": jnp.ones(4)}},
    )


pair = pair_of(make_jax)
