"""Derivatives, vmap and what they are made of, in JAX."""

import jax
import jax.numpy as jnp


def _energy(x):
    return (jnp.sin(x) * x).sum()


def gradient(x):
    return jax.grad(_energy)(x)


def value_and_gradient(x):
    loss, gradient = jax.value_and_grad(_energy)(x)
    return loss, gradient


def several_arguments(x, y):
    return jax.grad(lambda x, y: (x * jnp.exp(y)).sum(), argnums=(0, 1))(x, y)


def further_outputs(x):
    def loss_and_hidden(x):
        hidden = jnp.tanh(x)
        return jnp.square(hidden).sum(), hidden

    gradient, hidden = jax.grad(loss_and_hidden, has_aux=True)(x)
    return gradient, hidden


def by_the_input(image, weight):
    saliency = jax.grad(lambda image: (image @ weight)[:, 0].sum())(image)
    return jnp.abs(saliency)


def unused_input(x, y):
    return jax.grad(lambda x, y: _energy(x), argnums=(0, 1))(x, y)


def directional(x, direction):
    return jax.jvp(_energy, (x,), (direction,))


def pulled_back(x, cotangent):
    output, pull_back = jax.vjp(jnp.tanh, x)
    (gradient,) = pull_back(cotangent)
    return output, gradient


def jacobian(x):
    return jax.jacrev(lambda x: jnp.sin(x.cumsum(0)))(x), jax.jacfwd(jnp.tanh)(
        x
    )


def hessian(x):
    return jax.hessian(_energy)(x)


def hessian_times_vector(x, direction):
    _, product = jax.jvp(jax.grad(_energy), (x,), (direction,))
    return product


def linear_approximation(x, direction):
    value, derivative = jax.linearize(jnp.sin, x)
    return value + derivative(direction)


def gradient_penalty(x, weight):
    gradient = jax.grad(lambda x: jnp.tanh(x @ weight).sum())(x)
    return jnp.square(gradient).sum()


def per_example_gradients(weight, x, y):
    def loss(weight, x, y):
        return jnp.square(x @ weight - y).mean()

    return jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(weight, x, y)


def map_over_a_batch(x, weight):
    def one(x, weight):
        return jnp.tanh(jnp.dot(x, weight))

    return jax.vmap(one, in_axes=(0, None))(x, weight)


def map_over_other_axes(x, y):
    return jax.vmap(jnp.outer, in_axes=(1, 0), out_axes=2)(x, y)


def stop_gradient(x):
    target = jax.lax.stop_gradient(x) * 2
    return ((x - target) ** 2).sum()


def without_gradient(x):
    scale = jax.lax.stop_gradient(jnp.abs(x).max())
    return x / scale


def laplacian(x):
    return jnp.trace(jax.hessian(_energy)(x))
