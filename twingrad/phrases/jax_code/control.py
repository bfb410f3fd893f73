"""Loops and branches, in JAX."""

import jax
import jax.numpy as jnp


def loop(x):
    return jax.lax.fori_loop(0, 5, lambda i, x: jnp.sin(x), x)


def recurrence(x, decay):
    def step(state, row):
        state = decay * state + row
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x)


def until_it_converges(a):
    def unfinished(carry):
        x, _ = carry
        return jnp.abs(x * x - a).max() > 1e-13

    def step(carry):
        x, steps = carry
        return (x + a / x) / 2, steps + 1

    return jax.lax.while_loop(unfinished, step, (a, 0))


def differentiable_stop(a):
    def step(x, _):
        finished = jnp.abs(x * x - a).max() <= 1e-13
        return jnp.where(finished, x, (x + a / x) / 2), None

    x, _ = jax.lax.scan(step, a, length=10)
    return x


def branch(x):
    return jax.lax.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, x)


def choose_a_function(x, which):
    functions = (jnp.sin, jnp.cos, jnp.tanh)
    return jax.lax.switch(which, functions, x)


def ragged_batch(x, lengths):
    mask = jnp.arange(x.shape[1]) < lengths[:, None]
    return x.mean(axis=1, where=mask)


def all_prefixes(a, b):
    def combine(early, late):
        return early[0] * late[0], late[0] * early[1] + late[1]

    _, states = jax.lax.associative_scan(combine, (a, b))
    return states


def in_chunks(x):
    return jax.lax.map(jnp.exp, x, batch_size=2)


def many_equal_layers(x, weights):
    def layer(x, weight):
        return jnp.tanh(x @ weight), None

    x, _ = jax.lax.scan(layer, x, weights)
    return x
