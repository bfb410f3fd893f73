"""Compilation, tracing and timing, in JAX."""

import functools
import time

import jax
import jax.numpy as jnp


def compile_a_function(x):
    @jax.jit
    def energy(x):
        return (jnp.sin(x) * x).sum()

    return energy(x)


def once_for_each_shape(x):
    traced = []

    @jax.jit
    def total(x):
        traced.append(x.shape)  # Python runs while tracing alone
        return jnp.sin(x).sum()

    values = [total(x[:length]) for length in (2, 3, 3)]
    return values, len(traced)


def once_for_many_shapes(x):
    traced = []

    @jax.jit
    def total(x, length):
        traced.append(x.shape)
        return jnp.sin(x).sum(where=jnp.arange(len(x)) < length)

    values = [
        total(jnp.pad(x[:length], (0, 4 - length)), length)
        for length in (2, 3, 4)
    ]
    return values, len(traced)


def an_argument_that_is_no_array(x):
    traced = []

    @functools.partial(jax.jit, static_argnames="exponent")
    def power(x, exponent):
        traced.append(exponent)
        return x**exponent if exponent > 2 else x * x

    values = [power(x, exponent=exponent) for exponent in (2, 3, 3)]
    return values, len(traced)


def a_setting_that_changes(x):
    @jax.jit
    def scaled(x, scale):  # a global would stay what it was when it was traced
        return x * scale

    return scaled(x, 2.0), scaled(x, 3.0)


def reuse_the_memory(state, gradient):
    @functools.partial(jax.jit, donate_argnames="state")
    def step(state, gradient):
        return state - 0.1 * gradient

    before = state
    state = step(state, gradient)
    return state, before.is_deleted()  # the old numbers are gone


def measure_time(x):
    work = jax.jit(lambda x: x @ x.T)

    result = work(x).block_until_ready()  # the first call compiles
    start = time.perf_counter()
    for _ in range(3):
        result = work(x)
    result.block_until_ready()
    seconds = (time.perf_counter() - start) / 3
    return result, seconds > 0


def count_operations(x, y):
    compiled = jax.jit(lambda x, y: x @ y).lower(x, y).compile()
    return int(compiled.cost_analysis()["flops"])


def look_at_the_program(x):
    traced = jax.make_jaxpr(lambda x: jnp.sin(x).sum())(x)
    return jax.core.eval_jaxpr(traced.jaxpr, traced.consts, x)[0], "sin" in str(
        traced
    )


def export(x):
    def energy(x):
        return (jnp.sin(x) * x).sum()

    program = jax.export.export(jax.jit(energy))(x)
    return program.call(x)
