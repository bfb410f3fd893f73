"""Derivatives of one's own, in JAX."""

import jax
import jax.numpy as jnp


def own_derivative(x):
    @jax.custom_vjp
    def swish(x):
        return x * jax.nn.sigmoid(x)

    def forward(x):
        gate = jax.nn.sigmoid(x)
        return x * gate, (x, gate)

    def backward(saved, cotangent):
        x, gate = saved
        return (cotangent * (gate + x * gate * (1 - gate)),)

    swish.defvjp(forward, backward)
    return swish(x)


def own_forward_derivative(x, direction):
    @jax.custom_jvp
    def softplus(x):
        return jnp.logaddexp(x, 0.0)

    @softplus.defjvp
    def _(primals, tangents):
        (x,), (tangent,) = primals, tangents
        return softplus(x), tangent * jax.nn.sigmoid(x)

    return jax.jvp(softplus, (x,), (direction,))


def clip_on_the_way_back(x):
    @jax.custom_vjp
    def clipped(y):
        return y

    clipped.defvjp(
        lambda y: (y, None), lambda _, gradient: (gradient.clip(-1, 1),)
    )
    return clipped(x * 3)


def straight_through(x):
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def reverse_the_gradient(x):
    @jax.custom_vjp
    def reversal(x):
        return x

    reversal.defvjp(
        lambda x: (x, None), lambda _, cotangent: (-0.5 * cotangent,)
    )
    return reversal(x)


def implicit(a):
    def newton(f, y):
        def step(_, y):
            return y - f(y) / (3 * y * y + 1)

        return jax.lax.fori_loop(0, 50, step, y)

    def tangent_solve(linear, b):
        return b / linear(jnp.ones_like(b))

    return jax.lax.custom_root(lambda y: y**3 + y - a, a, newton, tangent_solve)


def recompute(x, weight):
    @jax.checkpoint
    def block(x, weight):
        return jnp.exp(jnp.tanh(x @ weight))

    return block(x, weight)


def safe_norm(x):
    squared = (x * x).sum(axis=-1)
    nonzero = squared > 0
    return jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, squared, 1.0)), 0.0)
